// Package web is the HTTP side of the server: images, boot files and scripts,
// the tracker's paths, the status API and a plain status page.
package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"swarmboot/internal/event"
)

// Limits of requests.
const (
	maxBody      = event.MaxReport
	headerTime   = 10 * time.Second
	bodyTime     = 10 * time.Second // a report is a few hundred bytes
	maxHeaderLen = 16 << 10
)

// ImageChecking is the State of an image that is still being read whole.
const ImageChecking = "checking"

// ImageInfo is an image in the API.
type ImageInfo struct {
	Name          string    `json:"name"`
	State         string    `json:"state"`             // ImageChecking, "ready" or "broken"
	Percent       int       `json:"percent,omitempty"` // checked
	Reason        string    `json:"reason,omitempty"`  // why it is broken
	Created       time.Time `json:"created,omitzero"`
	DiskSize      int64     `json:"diskSize,omitempty"`
	MinDiskSize   int64     `json:"minDiskSize,omitempty"`
	UsedBytes     int64     `json:"usedBytes,omitempty"`
	PayloadLength int64     `json:"payloadLength,omitempty"`
	Layout        string    `json:"layout,omitempty"`
	InfoHash      string    `json:"infoHash,omitempty"`
	Uploaded      int64     `json:"uploaded"` // payload bytes sent by the server's seeder
}

// Payload is what http.ServeContent needs of a payload.
type Payload interface {
	ReadAt(p []byte, off int64) (int, error)
}

// Images is the catalog as this package uses it.
type Images interface {
	// List returns all images by name.
	List() []ImageInfo
	// Manifest, Torrent and Payload return false for an image that is not ready.
	Manifest(name string) ([]byte, bool)
	Torrent(name, announce string) ([]byte, bool)
	Payload(name string) (p Payload, size int64, modified time.Time, ok bool)
}

// BootRequest is what a boot script is made for.
type BootRequest struct {
	Base string // http://host:port under which the client knows the server
	MAC  string // lower case with colons; "" when the client did not say
	UUID string // SMBIOS UUID as the client writes it; "" when it did not say
}

// Options of a Handler.
type Options struct {
	Images  Images
	Nodes   *Nodes
	Tracker http.Handler // answers /announce and /scrape
	// Needed says whether an unfinished node of the image depends on node.
	Needed func(image, node string) bool
	// Script makes the iPXE script for a machine; nil means that there is none.
	Script    func(BootRequest) (string, error)
	Kernel    string // file served as /boot/vmlinuz
	Initramfs string // file served as /boot/initramfs
	// IPXE opens an iPXE binary by name; nil means that there are none.
	IPXE func(name string) (fs.File, error)
	// Profile returns the profile as JSON of a node whose cards have these addresses; nil means that there are none. Its errors are for the node's admin.
	Profile func(node string, macs []string) ([]byte, error)
	// Layout returns a layout of disks by name as JSON; nil means that there are none. An error that wraps fs.ErrNotExist says
	// that there is none of this name; the others are for the node's admin.
	Layout func(name string) ([]byte, error)
	// Files opens what profiles refer to as /files/NAME; nil means that there is none.
	Files func(name string) (fs.File, error)
	// Warnings are what else is wrong with the server, for the page and the status; nil means that there are none.
	Warnings func() []string
	Logger   *slog.Logger
}

type handler struct{ Options }

func (h *handler) warnings() []string {
	out := h.Nodes.Warnings()
	if h.Warnings != nil {
		out = append(out, h.Warnings()...)
	}
	return out
}

// Handler returns the handler of everything the server says over HTTP.
func Handler(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.page)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, "ok\n") })
	mux.HandleFunc("GET /images/{file}", h.image)
	mux.HandleFunc("GET /api/v1/images", h.listImages)
	mux.HandleFunc("GET /api/v1/nodes", h.listNodes)
	mux.HandleFunc("POST /api/v1/nodes", h.progress)
	mux.HandleFunc("POST /api/v1/nodes/{node}/redeploy", h.redeploy)
	mux.HandleFunc("GET /api/v1/warnings", func(w http.ResponseWriter, _ *http.Request) { h.json(w, h.warnings()) })
	mux.HandleFunc("GET /api/v1/profile", h.profile)
	mux.HandleFunc("GET /files/{name...}", h.profileFile)
	mux.HandleFunc("GET /layouts/{name}", h.layout)
	mux.HandleFunc("GET /boot/script", h.script)
	mux.HandleFunc("GET /boot/vmlinuz", func(w http.ResponseWriter, r *http.Request) { h.file(w, r, h.Kernel) })
	mux.HandleFunc("GET /boot/initramfs", func(w http.ResponseWriter, r *http.Request) { h.file(w, r, h.Initramfs) })
	mux.HandleFunc("GET /boot/ipxe/{name}", h.ipxe)
	if o.Tracker != nil {
		mux.Handle("GET /announce", o.Tracker)
		mux.Handle("GET /scrape", o.Tracker)
	}
	// A page of another site, open in an admin's browser, must not redeploy machines.
	return http.NewCrossOriginProtection().Handler(mux)
}

// Server returns an http.Server with time-outs that fit: short for headers,
// none for bodies, which may be an image on a slow line.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTime, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeaderLen, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// image serves NAME.json, NAME.torrent and NAME.payload.
func (h *handler) image(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	if name, ok := strings.CutSuffix(file, ".json"); ok {
		if b, ok := h.Images.Manifest(name); ok {
			content(w, r, "application/json", b)
			return
		}
	}
	if name, ok := strings.CutSuffix(file, ".torrent"); ok {
		base, err := baseURL(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if b, ok := h.Images.Torrent(name, base+"/announce"); ok {
			content(w, r, "application/x-bittorrent", b)
			return
		}
	}
	if name, ok := strings.CutSuffix(file, ".payload"); ok {
		if p, size, mod, ok := h.Images.Payload(name); ok {
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", mod, newSection(p, size))
			return
		}
	}
	if percent, ok := h.checking(file); ok {
		w.Header().Set("Retry-After", "2")
		http.Error(w, fmt.Sprintf("%.200s is still being checked: %d %%", file, percent), http.StatusServiceUnavailable)
		return
	}
	http.Error(w, fmt.Sprintf("no image is ready under the name %.200q", file), http.StatusNotFound)
}

// checking says whether file belongs to an image that the server has and has not read whole since it was started.
// A node must be able to tell that from a name that does not exist: it waits for the one, not for the other.
func (h *handler) checking(file string) (percent int, ok bool) {
	ext := path.Ext(file)
	if ext != ".json" && ext != ".torrent" && ext != ".payload" {
		return 0, false
	}
	name := strings.TrimSuffix(file, ext)
	for _, im := range h.Images.List() {
		if im.Name == name && im.State == ImageChecking {
			return im.Percent, true
		}
	}
	return 0, false
}

// file serves a boot file by its path on this host.
func (h *handler) file(w http.ResponseWriter, r *http.Request, path string) {
	if path == "" {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(path)
	if err != nil {
		h.Logger.Warn("boot file cannot be read", "error", err)
		http.Error(w, "the server cannot read this boot file", http.StatusNotFound)
		return
	}
	defer f.Close()
	h.serve(w, r, f)
}

// ipxe serves an iPXE binary to firmware that boots over HTTP.
func (h *handler) ipxe(w http.ResponseWriter, r *http.Request) {
	if h.IPXE == nil {
		http.NotFound(w, r)
		return
	}
	f, err := h.IPXE(r.PathValue("name"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	h.serve(w, r, f)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, f fs.File) {
	fi, err := f.Stat()
	rs, ok := f.(interface {
		Read([]byte) (int, error)
		Seek(int64, int) (int64, error)
	})
	if err != nil || !ok || !fi.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	// UEFI takes a boot file by this type or by the end of its name.
	w.Header().Set("Content-Type", "application/efi")
	if !strings.HasSuffix(r.URL.Path, ".efi") {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	http.ServeContent(w, r, "", fi.ModTime(), rs)
}

// script serves the iPXE script for the machine with ?mac=.
func (h *handler) script(w http.ResponseWriter, r *http.Request) {
	if h.Script == nil {
		http.NotFound(w, r)
		return
	}
	base, err := baseURL(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req := BootRequest{Base: base, UUID: r.URL.Query().Get("uuid")}
	if s := r.URL.Query().Get("mac"); s != "" {
		if req.MAC, err = ParseMAC(s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	s, err := h.Script(req)
	if err != nil {
		h.Logger.Error("boot script", "mac", req.MAC, "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	text(w, s)
}

func (h *handler) listImages(w http.ResponseWriter, _ *http.Request) {
	h.json(w, h.Images.List())
}

func (h *handler) listNodes(w http.ResponseWriter, _ *http.Request) {
	h.json(w, h.Nodes.List())
}

// progress takes a node's report.
func (h *handler) progress(w http.ResponseWriter, r *http.Request) {
	var p event.Progress
	// A machine that dies in the middle of its report must not hold a connection for ever.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // not every ResponseWriter has one
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := d.Decode(&p); err != nil {
		http.Error(w, "report: "+err.Error(), http.StatusBadRequest)
		return
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	if err := h.Nodes.Update(p, host); errors.Is(err, ErrFull) || errors.Is(err, ErrNotSaved) {
		http.Error(w, "report: "+err.Error(), http.StatusServiceUnavailable)
		return
	} else if err != nil {
		http.Error(w, "report: "+err.Error(), http.StatusBadRequest)
		return
	}
	leave := p.Phase.Complete() && (h.Needed == nil || !h.Needed(p.Image, p.Node))
	h.json(w, event.Reply{Leave: leave})
}

// redeploy lets a machine that was deployed be deployed again at its next boot.
func (h *handler) redeploy(w http.ResponseWriter, r *http.Request) {
	n, err := h.Nodes.Redeploy(r.PathValue("node"))
	if errors.Is(err, ErrNotSaved) {
		http.Error(w, fmt.Sprintf("%d to be deployed, unless this server is started again before: %v", n, err), http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	h.json(w, map[string]int{"nodes": n})
}

func (h *handler) json(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		h.Logger.Error("API answer", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	rawJSON(w, append(b, '\n'))
}

// rawJSON sends an answer that is JSON already. What is asked again must not come from a cache on the way.
func rawJSON(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b)
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(s))
}

func content(w http.ResponseWriter, r *http.Request, mime string, b []byte) {
	w.Header().Set("Content-Type", mime)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252})$`)

// baseURL is the URL under which the client knows this server, from the Host
// header; the header is checked since it goes into torrents and scripts.
func baseURL(r *http.Request) (string, error) {
	host, port := r.Host, ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	ip := net.ParseIP(host)
	if ip == nil && !hostName.MatchString(host) {
		return "", fmt.Errorf("the Host header %.200q names no host", r.Host)
	}
	if ip != nil && ip.To4() == nil {
		host = "[" + host + "]"
	}
	if port == "" {
		return "http://" + host, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("the Host header %.200q has no valid port", r.Host)
	}
	return "http://" + host + ":" + port, nil
}
