package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"swarmboot/internal/params"
	"swarmboot/internal/profiles"
)

func TestProfileScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/profile",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(tool(t))+":"+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": imageCodeCmd},
	})
}

func TestProfileExample(t *testing.T) {
	p, err := profiles.Parse("example.yaml", []byte(profileExample))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSelector(p); err != nil {
		t.Error(err)
	}
	if len(p.Parameters) != len(params.ProfileNames()) || !p.HasIdentity() {
		t.Errorf("%+v", p)
	}
}
