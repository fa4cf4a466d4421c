package main

import (
	"testing"

	"swarmboot/internal/params"
	"swarmboot/internal/profiles"
)

func TestProfileScript(t *testing.T) { runScripts(t, "testdata/profile") }

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
