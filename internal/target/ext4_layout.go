package target

import "fmt"

// extRun is a run of blocks of the file system.
type extRun struct{ start, length int64 }

func (r extRun) end() int64 { return r.start + r.length }

// extLayout is where the structures of one flexible group lie: at its front, one kind after the other, in the place of the first
// groups' data, around the copies of the superblock.
type extLayout struct {
	first, groups int64 // numbers
	blockBitmaps  int64 // the first of them, one for each group
	inodeBitmaps  int64
	tables        []int64
	journal       []extRun
	journalTree   int64 // the block that holds the journal's extents, 0: its inode does
	root, lost    int64 // the root directory, and the four blocks of lost+found
	used          []extRun
}

// extInodeRuns is how many extents an inode has room for.
const extInodeRuns = 4

// extLostBlocks is the size of lost+found, which e2fsck wants to find with room.
const extLostBlocks = 4

// extAllocator hands out blocks in ascending order.
type extAllocator struct {
	*extGeometry
	at   int64
	used []extRun
}

// skip goes past the copy of the superblock that the next block may belong to, and returns the block where the next copy
// begins, or the group after the next.
func (a *extAllocator) skip() (limit int64) {
	group := a.at / extGroup
	a.at = max(a.at, group*extGroup+a.base(group))
	for group++; a.base(group) == 0 && group*extGroup-a.at < extGroup; group++ {
	}
	return group * extGroup
}

// take returns the first of n blocks in a row; n is less than the room in a group.
func (a *extAllocator) take(n int64) int64 {
	if limit := a.skip(); a.at+n > limit {
		a.at = limit
		a.skip()
	}
	start := a.at
	a.mark(n)
	return start
}

// takeRuns returns n blocks in runs that an extent can describe.
func (a *extAllocator) takeRuns(n int64) (runs []extRun) {
	for n > 0 {
		limit := a.skip()
		r := extRun{a.at, min(n, limit-a.at, extGroup)}
		runs = append(runs, r)
		a.mark(r.length)
		n -= r.length
	}
	return runs
}

func (a *extAllocator) mark(n int64) {
	if last := len(a.used) - 1; last >= 0 && a.used[last].end() == a.at {
		a.used[last].length += n
	} else {
		a.used = append(a.used, extRun{a.at, n})
	}
	a.at += n
}

// layout places the structures of a flexible group.
func (g *extGeometry) layout(flex int64) (*extLayout, error) {
	l := &extLayout{first: flex * g.flex}
	l.groups = min(g.flex, g.groups-l.first)
	a := &extAllocator{extGeometry: g, at: l.first * extGroup}
	l.blockBitmaps = a.take(l.groups)
	l.inodeBitmaps = a.take(l.groups)
	for range l.groups {
		l.tables = append(l.tables, a.take(g.table))
	}
	if flex == 0 {
		l.root, l.lost = a.take(1), a.take(extLostBlocks)
	}
	if flex == g.journalFlex() { // near the middle, and never in a last one that is short
		l.journal = a.takeRuns(g.journal)
		if len(l.journal) > extInodeRuns {
			l.journalTree = a.take(1)
		}
	}
	l.used = a.used
	if end := min(g.blocks, (l.first+l.groups)*extGroup); a.at > end {
		return nil, fmt.Errorf("the structures of the groups from %d end at block %d of %d", l.first, a.at, end)
	}
	return l, nil
}

func (g *extGeometry) journalFlex() int64 { return (g.flexes() - 1) / 2 }

// usedIn returns what of a group is used, as runs relative to its start; base alone says that nothing of the layout is in it.
func (l *extLayout) usedIn(g *extGeometry, group int64) (runs []extRun, free int64, baseOnly bool) {
	start, length := group*extGroup, g.length(group)
	free, baseOnly = length-g.base(group), true
	if base := g.base(group); base > 0 {
		runs = append(runs, extRun{0, base})
	}
	for _, u := range l.used {
		from, to := max(u.start, start), min(u.end(), start+length)
		if from < to {
			runs = append(runs, extRun{from - start, to - from})
			free, baseOnly = free-(to-from), false
		}
	}
	return runs, free, baseOnly
}
