package profiles

import (
	"errors"
	"strings"

	"swarmboot/internal/params"
	"swarmboot/internal/strictyaml"
)

// Parse reads one profile from YAML, strictly, and checks it; file is its name for errors. Every error is a *strictyaml.Error, joined.
func Parse(file string, b []byte) (p *params.Profile, err error) {
	p = &params.Profile{}
	doc, err := strictyaml.Read(file, b, params.MaxProfile, p)
	if err != nil {
		return nil, err
	}
	asWritten(doc, p)
	var errs []error
	for _, e := range p.Check() {
		errs = append(errs, doc.Error(e))
	}
	return p, errors.Join(errs...)
}

// asWritten undoes what YAML makes of digits without quotes: 0644 is a mode, not the number 420.
func asWritten(doc *strictyaml.Document, p *params.Profile) {
	digits := func(dst *string, path ...any) {
		if text, ok := doc.Written(path...); ok {
			*dst = strings.TrimPrefix(text, "0o")
		}
	}
	digits(&p.Hostname, "hostname")
	for i := range p.Files {
		digits(&p.Files[i].Mode, "files", i, "mode")
		digits(&p.Files[i].SHA256, "files", i, "sha256")
	}
	for i := range p.Hooks {
		digits(&p.Hooks[i].SHA256, "hooks", i, "sha256")
	}
}
