package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want string
	}{{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {5 << 30, "5.0 GiB"}, {1 << 62, "4.0 EiB"}} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("Bytes(%d) = %q, want %q", c.n, got, c.want)
		}
	}
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	b := newBar(&out, "fetch", false, func() time.Time { return now })
	b.Set(1<<20, 10<<20) // too soon for a line
	now = now.Add(5 * time.Second)
	b.Set(5<<20, 10<<20)
	now = now.Add(time.Second) // too soon again
	b.Set(6<<20, 10<<20)
	now = now.Add(4 * time.Second)
	b.Set(10<<20, 10<<20)
	b.Finish()
	want := "fetch: 50%, 5.0 MiB of 10.0 MiB, 1.0 MiB/s, 5s left\n" +
		"fetch: 100%, 10.0 MiB of 10.0 MiB, 1.0 MiB/s\n" +
		"fetch: 10.0 MiB in 10.0 s, 1.0 MiB/s\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestTerminalBar(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, "create", true, time.Now)
	b.Set(1<<20, 4<<20)
	b.Finish()
	if s := out.String(); !strings.Contains(s, "create") || !strings.Contains(s, "25%") || !strings.HasSuffix(s, "\n") {
		t.Errorf("bar %q lacks label, share or final new line", s)
	}
	(*Bar)(nil).Set(1, 2)
	(*Bar)(nil).Finish()
}
