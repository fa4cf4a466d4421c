package field

import "testing"

func TestErrorsSayWhere(t *testing.T) {
	var errs []*Error
	top := New(&errs)
	list := top.In("candidates", 0, "disks")
	list.In(1, "count").Fail("%q: want a number", "x")
	list.In(2).Fail("is empty") // the path of the first is not overwritten
	top.Fail("is no layout")
	top.In(3).Fail("stands alone")
	for i, want := range []string{`candidates[0].disks[1].count: "x": want a number`, "candidates[0].disks[2]: is empty", ": is no layout", "[3]: stands alone"} {
		if i >= len(errs) || errs[i].Error() != want {
			t.Errorf("%d: %v, want %s", i, errs, want)
		}
	}
	Checker{}.In("x").Fail("nobody listens")
}
