package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of a report. What is longer is cut, by the node and once more by the server: a report that is refused is one of a node
// that seems to be lost, and its last one decides whether the machine is deployed again when it next boots.
const (
	MaxReport   = 128 << 10 // bytes of a Progress as JSON
	MaxText     = 4096      // bytes of each of its texts but
	MaxPlan     = 64 << 10  // the Message of PhasePlan: the plan of a machine with a hundred disks
	MaxWarnings = 16
	MaxArrays   = 64
)

// Body returns the report as JSON of at most MaxReport bytes.
func (p Progress) Body() ([]byte, error) {
	for limit := MaxPlan; ; limit /= 2 {
		q := p
		q.bound(limit)
		b, err := json.Marshal(q)
		if err != nil || len(b) <= MaxReport || limit < 64 {
			return b, err
		}
	}
}

// Bound cuts texts and lists to their limits and says so in their place. The lists that p has shared are left alone.
func (p *Progress) Bound() { p.bound(MaxPlan) }

// bound is Bound with a further limit for every text.
func (p *Progress) bound(limit int) {
	text := min(limit, MaxText)
	message := text
	if p.Phase == PhasePlan {
		message = min(limit, MaxPlan)
	}
	cut(&p.Message, message)
	cut(&p.Disk, text)
	cut(&p.Error, text)
	p.Warnings = boundList(p.Warnings, MaxWarnings, "warnings", text)
	p.Arrays = boundList(p.Arrays, MaxArrays, "arrays", text)
	p.Hooks = slices.Clone(p.Hooks)
	for i := range p.Hooks {
		h := &p.Hooks[i]
		cut(&h.Name, text)
		cut(&h.Output, text)
		cut(&h.Error, text)
	}
}

func boundList(list []string, most int, what string, text int) []string {
	all := len(list)
	list = slices.Clone(list[:min(all, most)])
	if all > most {
		list[most-1] = fmt.Sprintf("%d more %s, which are not shown", all-most+1, what)
	}
	for i := range list {
		cut(&list[i], text)
	}
	return list
}

const cutMark = " ... (cut)"

// cut makes a text valid UTF-8 of at most n bytes, n being more than the mark that it was longer takes.
func cut(s *string, n int) {
	if len(*s) > n {
		*s = strings.ToValidUTF8((*s)[:n-len(cutMark)], "") + cutMark
	}
	*s = strings.ToValidUTF8(*s, "")
}
