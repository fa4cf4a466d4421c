package profiles

import (
	"errors"
	"strings"

	"swarmboot/internal/field"
	"swarmboot/internal/params"
	"swarmboot/internal/strictyaml"
)

// Rule returns what is wrong with a profile beside what Profile.Check finds.
type Rule func(*params.Profile) []*field.Error

// Parse reads one profile from YAML, strictly, and checks it; file is its name for errors. Every error is a *strictyaml.Error, joined.
func Parse(file string, b []byte, rules ...Rule) (p *params.Profile, err error) {
	p = &params.Profile{}
	doc, err := strictyaml.Read(file, b, params.MaxProfile, p)
	if err != nil {
		return nil, err
	}
	for i := range p.Files {
		p.Files[i].Mode = strings.TrimPrefix(p.Files[i].Mode, "0o") // YAML's own way to write one
	}
	var errs []error
	for _, e := range check(p, rules) {
		errs = append(errs, doc.Error(e))
	}
	return p, errors.Join(errs...)
}

func check(p *params.Profile, rules []Rule) []*field.Error {
	errs := p.Check()
	for _, rule := range rules {
		errs = append(errs, rule(p)...)
	}
	return errs
}
