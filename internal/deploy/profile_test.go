package deploy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/params"
)

// A profile decides what nobody else has decided.
func TestSettle(t *testing.T) {
	p := &params.Profile{Parameters: map[string]string{"disk": "serial=X", "then": "poweroff", "onerror": "reboot", "verify": "readback", "seed": "7s", "append": "quiet", "grow": "none", "rack": "r7"}}
	e := &engine{o: Options{Disk: "only", Then: "kexec", Verify: params.VerifyWrite, Grow: params.GrowLast}}
	if err := e.settle(p); err != nil {
		t.Fatal(err)
	}
	if o := e.o; o.Disk != "serial=X" || o.Then != "poweroff" || o.OnError != "reboot" || o.Verify != params.VerifyReadBack || o.Seed != 7*time.Second || o.Append != "quiet" || o.Rack != "r7" || o.Grow != params.GrowNone {
		t.Errorf("%+v", o)
	}
	e = &engine{o: Options{Disk: "only", Then: "kexec", Given: map[string]bool{"disk": true, "then": true}}}
	if err := e.settle(p); err != nil || e.o.Disk != "only" || e.o.Then != "kexec" || e.o.Verify != params.VerifyReadBack {
		t.Errorf("%v, %+v", err, e.o)
	}
	if err := e.settle(&params.Profile{Parameters: map[string]string{"server": "http://x"}}); err == nil {
		t.Error("a profile names the server")
	}
}

// The profile is asked for until the server answers; an answer that it is wrong, or too large, is final.
func TestClientProfile(t *testing.T) {
	for _, tt := range []struct {
		name     string
		answers  []int // the last is repeated
		body     string
		want     string
		code     int
		requests int64
	}{
		{"empty", []int{200}, "{}", "", 0, 1},
		{"after a while", []int{503, 500, 200}, `{"hostname":"a"}`, "", 0, 3},
		{"not our server", []int{404}, "<html>", "/api/v1/profile?mac=52%3A54%3A00%3Aaa%3Abb%3Acd&node=52%3A54%3A00%3Aaa%3Abb%3Acc: the server says 404", cli.CodeUsage, 1},
		{"wrong on the server", []int{422}, "a.yaml:1:1: x\nb.yaml:2:2: y\n", "the server says: a.yaml:1:1: x; b.yaml:2:2: y", cli.CodeUsage, 1},
		{"unknown field", []int{200}, `{"hostnam":"a"}`, `unknown field "hostnam"`, cli.CodeOther, 1},
		{"wrong value", []int{200}, `{"hostname":"a_b"}`, `hostname: "a_b"`, cli.CodeOther, 1},
		{"more behind it", []int{200}, `{}{}`, "after its end", cli.CodeOther, 1},
		{"too large", []int{200}, `{"hostname":"` + strings.Repeat("a", params.MaxProfile) + `"}`, "more than the", cli.CodeVerify, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i := min(int(n.Add(1)), len(tt.answers)) - 1
				if r.URL.Query().Get("node") != "52:54:00:aa:bb:cc" {
					t.Errorf("asked with %s", r.URL)
				}
				w.WriteHeader(tt.answers[i])
				w.Write([]byte(tt.body)) //nolint:errcheck // the client may have had enough
			}))
			defer s.Close()
			c, err := newClient(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			p, err := c.profile(t.Context(), "52:54:00:aa:bb:cc", []string{"52:54:00:aa:bb:cd"}, 20*time.Second, func(string) {})
			if tt.want == "" && (err != nil || p == nil) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || cli.Code(err) != tt.code) {
				t.Errorf("%v, code %d", err, cli.Code(err))
			}
			if n.Load() != tt.requests {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := newClient(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.profile(t.Context(), "a", nil, 300*time.Millisecond, func(string) {}); cli.Code(err) != cli.CodeUnreachable {
		t.Errorf("a server that is not there: %v", err)
	}
}
