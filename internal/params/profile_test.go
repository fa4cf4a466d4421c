package params

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a node cannot take back is refused on the server and on the node alike.
func TestParseProfile(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{}`, ""}, {`{"machineID":"reset","parameters":{"then":"kexec"}}`, ""},
		{`{"machineId":"reset","x":1}`, "unknown field"}, // encoding/json takes machineId for machineID, and no x
		{`{"parameters":{"image":"a"}}`, "parameters.image: is needed before"},
		{`{"files":[{"path":"/a"}]}`, "files[0]: has neither"},
		{`{"files":[{"path":"/dev/sda","content":""}]}`, "not kept on the disk"},
		{`{"hostname":"` + strings.Repeat("a", 65) + `"}`, "64 characters"},
		{`{"ssh":{"authorizedKeys":{"root":["ssh-ed25519 AAAA\nx"]}}}`, "not a public key"},
		{`[]`, "cannot unmarshal"}, {`{}x`, "after its end"}, {``, "EOF"},
		{strings.Repeat(" ", MaxProfile) + "{}", "at most"},
	} {
		_, err := ParseProfile([]byte(tt.json))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.100s: %v, want %q", tt.json, err, tt.want)
		}
	}
}

// What comes from the network is a checked profile or an error.
func FuzzParseProfile(f *testing.F) {
	for _, s := range []string{"{}", `{"hostname":"a","files":[{"path":"/a","content":""}]}`, `{"network":{"interfaces":[{"mac":"boot","dhcp":true}]}}`, `{"fstab":[{}]}`, "[", "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProfile(b)
		if err != nil {
			return
		}
		if errs := p.Check(); len(errs) > 0 {
			t.Fatal(errs[0])
		}
		again, err := json.Marshal(p)
		if err == nil {
			_, err = ParseProfile(again)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
