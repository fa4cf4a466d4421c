package profiles

import (
	"os"
	"path/filepath"
	"testing"

	"swarmboot/internal/params"
)

// A node's own profile replaces a hook of the same name where it stands, adds others behind, and can take newUUIDs back.
func TestHooksOfNodes(t *testing.T) {
	dir := t.TempDir()
	digits := "0123456789012345678901234567890123456789012345678901234567890123" // 64 digits are a hash, not a number
	for name, text := range map[string]string{
		"default.yaml": "newUUIDs: true\nhooks:\n- {name: a, at: before-disks, content: one}\n- {name: b, at: after-write, url: /files/b, sha256: " + digits + "}\n",
		"n1.yaml":      "newUUIDs: false\nhooks:\n- {name: c, at: before-kexec, content: three, timeout: 2m30s}\n- {name: a, at: before-kexec, content: two, onFailure: ignore}\n",
		"n2.yaml":      "hostname: n2\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := For(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Hooks) != 3 || p.Hooks[0].Name != "a" || *p.Hooks[0].Content != "two" || p.Hooks[0].OnFailure != params.HookIgnore || p.Hooks[1].SHA256 != digits || p.HasNewUUIDs() {
		t.Errorf("%+v", p)
	}
	last := p.HooksAt(params.HookBeforeKexec)
	if len(last) != 2 || last[0].Name != "a" || last[0].Limit() != params.DefaultHookTimeout || last[1].Limit().String() != "2m30s" {
		t.Errorf("%+v", last)
	}
	if p, err = For(dir, "n2"); err != nil || !p.HasNewUUIDs() || len(p.Hooks) != 2 || p.Hooks[0].At != params.HookBeforeDisks {
		t.Errorf("%+v, %v", p, err)
	}
}
