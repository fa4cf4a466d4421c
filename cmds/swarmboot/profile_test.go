package main

import (
	"testing"

	"swarmboot/internal/params"
	"swarmboot/internal/profiles"
)

func TestProfileScript(t *testing.T) { runScripts(t, "testdata/profile") }

func TestProfileExample(t *testing.T) {
	p, err := profiles.Parse("example.yaml", []byte(profileExample), checkDisks)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Parameters) != len(params.ProfileNames())-1 || !p.HasIdentity() { // all but layout
		t.Errorf("%+v", p)
	}
}
