package main

import (
	"encoding/json"
	"io"
	"os"

	"swarmboot/internal/event"
)

// maxSwitch bounds the file of --switch: some hundred bytes, each of which JSON may write as six.
const maxSwitch = 4 << 10

// readSwitch reads what process 1 knows of the switch. A file that is not there yet is no error, and one that cannot be read no reason
// to stop a deployment.
func readSwitch(path string) event.Switch {
	f, err := os.Open(path)
	if err != nil {
		return event.Switch{}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSwitch))
	if err != nil {
		return event.Switch{}
	}
	var s event.Switch
	if json.Unmarshal(b, &s) != nil || len(s.ID) > event.MaxSwitchID {
		return event.Switch{}
	}
	return s
}
