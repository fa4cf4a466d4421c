package web

import (
	"errors"
	"io/fs"
	"net/http"

	"swarmboot/internal/event"
)

// profile serves what ?node= is to become; the addresses of all its cards are in mac=. A profile that is wrong is 422 with the reason: the node must not go on as if
// it had none.
func (h *handler) profile(w http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	if mac, err := ParseMAC(node); err == nil {
		node = mac
	}
	if !nodeID.MatchString(node) {
		http.Error(w, "node: neither a MAC address nor a host name", http.StatusBadRequest)
		return
	}
	m := event.Machine{MACs: r.URL.Query()["mac"]}
	cleanMachine(&m)
	b := []byte("{}")
	if h.Profile != nil {
		var err error
		if b, err = h.Profile(node, m.MACs); err != nil {
			h.Logger.Warn("profile", "node", node, "error", err)
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
	}
	rawJSON(w, b)
}

// layout serves a layout of disks by name: 404 when there is none, 422 with the reason when it is wrong.
func (h *handler) layout(w http.ResponseWriter, r *http.Request) {
	if h.Layout == nil {
		http.NotFound(w, r)
		return
	}
	name := r.PathValue("name")
	b, err := h.Layout(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "the server has no layout of this name", http.StatusNotFound)
		return
	case err != nil:
		h.Logger.Warn("layout", "name", name, "error", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	rawJSON(w, b)
}

// profileFile serves a file that a profile refers to. There are no lists of them.
func (h *handler) profileFile(w http.ResponseWriter, r *http.Request) {
	if h.Files == nil {
		http.NotFound(w, r)
		return
	}
	f, err := h.Files(r.PathValue("name"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	h.serve(w, r, f)
}
