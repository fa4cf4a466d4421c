package tracker

import (
	"fmt"
	"testing"
	"time"
)

// racksWithSlow are two racks of 10 in a chain, in each of which node 3 of 10 is slow, and says so.
func racksWithSlow(t *testing.T) *line {
	l := newLine(t, Settings{})
	l.racks, l.rates[3], l.rates[13] = 10, 25e6, 25e6
	for i := range 20 {
		l.speed[i] = map[bool]int{true: 100, false: 1000}[i%10 == 3]
	}
	for range 4 {
		l.round(20)
	}
	l.slow(3, 13)
	return l
}

func (l *line) complete(nodes ...int) {
	for _, i := range nodes {
		r := l.report(i)
		r.Done, r.Left, r.Complete = 4000, 0, true
		l.top.Announce(l.now, r)
	}
}

func (l *line) takesFrom(i, want int) {
	l.t.Helper()
	p := l.top.Announce(l.now, l.report(i))
	if p.Seeder || len(p.Upstreams) != 1 || indexOf(p) != want {
		l.t.Errorf("%d takes from %+v, want %d", i, p, want)
	}
}

func (l *line) needed(want ...int) {
	l.t.Helper()
	var got []int
	for i := range 20 {
		if l.top.Needed(fmt.Sprint("n", i)) {
			got = append(got, i)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("%v are needed, want %v", got, want)
	}
}

// TestSlowNodesComeHome: over the uplink the slow nodes of a chain take what comes until a node of their own rack is complete;
// that one is kept for them, and they take the rest from it.
func TestSlowNodesComeHome(t *testing.T) {
	l := racksWithSlow(t)
	l.takesFrom(3, 19)
	l.takesFrom(13, 3)
	l.complete(12) // as if it had been there before
	l.takesFrom(13, 12)
	for i := range 20 {
		if i%10 != 3 {
			l.complete(i)
		}
	}
	l.needed(0, 12, 19) // 19 by the one that has not heard yet
	l.takesFrom(13, 12) // not by 10, which is before
	l.takesFrom(3, 0)
	l.needed(0, 12)
	l.top.Leave("n0", "1")
	l.needed(1, 12) // another one in its place
	l.takesFrom(3, 1)
	l.complete(3, 13)
	l.needed()
}

// TestHomeOnlyFromAfar: a slow node whose upstream is in its rack keeps it: to take from another one would save nothing.
func TestHomeOnlyFromAfar(t *testing.T) {
	l := newLine(t, Settings{})
	for i := range 10 {
		l.speed[i] = map[bool]int{true: 100, false: 1000}[i == 3]
	}
	for range 4 {
		l.round(10)
	}
	l.complete(0, 1, 2, 4)
	l.takesFrom(3, 9)
	l.needed(4, 5, 6, 7, 8, 9)
}

// TestSlowStaysSlow: when only slow nodes still fetch, and others stay for them, what flows is what they take: that
// they take as much acquits none.
func TestSlowStaysSlow(t *testing.T) {
	l := racksWithSlow(t)
	for range 480 {
		l.now = l.now.Add(time.Second)
		for i := range 20 {
			if i%10 == 3 {
				l.top.Announce(l.now, l.report(i))
			} else {
				l.complete(i)
			}
		}
	}
	l.slow(3, 13)
	if c := l.top.Counts(); c.Acquits > 0 {
		t.Errorf("%+v", c)
	}
}

// TestHomeIsNotSlow: the head of a rack does not take from a slow node of its own, though that one is complete.
func TestHomeIsNotSlow(t *testing.T) {
	l := newLine(t, Settings{Chain: 2})
	l.racks = 3
	for i := range 6 {
		l.speed[i] = map[bool]int{true: 100, false: 1000}[i == 4]
	}
	for range 4 {
		l.round(6)
	}
	l.slow(4)
	l.complete(4)
	l.takesFrom(3, 0)
	l.complete(5)
	l.takesFrom(3, 5)
}

// TestSlowNodeIsRescued: a slow node that gets nothing has the seeder too after a while: its complete upstream may be unable to read
// what it lacks, and one that lacks the same, and says that it is well, may have a disk that hangs.
func TestSlowNodeIsRescued(t *testing.T) {
	for name, upstream := range map[string]int{"complete": 12, "hangs": 3} {
		t.Run(name, func(t *testing.T) {
			l := racksWithSlow(t)
			if upstream == 12 {
				l.complete(12)
			}
			l.takesFrom(13, upstream)
			r := l.report(13)
			r.Done, r.Stalled = l.report(3).Done, true
			told := func() Place {
				l.now = l.now.Add(time.Second)
				for i := range 20 {
					if i == 12 && upstream == 12 {
						l.complete(i)
					} else if i != 13 {
						l.top.Announce(l.now, l.report(i))
					}
				}
				return l.top.Announce(l.now, r)
			}
			for range longStall * hopeless {
				if p := told(); p.Seeder || indexOf(p) != upstream {
					t.Fatalf("helped at once: %+v", p)
				}
			}
			if p := told(); !p.Seeder || indexOf(p) != upstream {
				t.Errorf("after %d intervals: %+v", longStall*hopeless, p)
			}
			r.Stalled = false
			for range int(helpFor/time.Second) - 1 {
				r.Done++
				if p := told(); !p.Seeder {
					t.Errorf("not helped for long: %+v", p)
				}
			}
			if p := told(); p.Seeder {
				t.Errorf("helped for ever: %+v", p)
			}
		})
	}
}
