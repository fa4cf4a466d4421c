package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"swarmboot/internal/disk"
)

// Parse reads a layout from JSON, strictly, and checks it.
func Parse(b []byte) (*Layout, error) {
	if len(b) > MaxLayout {
		return nil, fmt.Errorf("layout: more than %d bytes", MaxLayout)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	l := &Layout{}
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("layout: data after the JSON object")
	}
	if errs := l.Check(); len(errs) > 0 {
		return nil, fmt.Errorf("layout: %w", errs[0])
	}
	return l, nil
}

// Check returns everything that is wrong with the layout itself, whatever machine it is for.
func (l *Layout) Check() []*FieldError { return nil }

func (l *Layout) plan(inv []disk.Inventory, im Image) (*Plan, error) {
	return nil, &RefusedError{Reason: "not decided"}
}

func defaultPlan(d disk.Disk, im Image, grow bool) (*Plan, error) {
	return nil, &RefusedError{Reason: "not decided"}
}
