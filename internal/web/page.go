package web

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"net/http"

	"swarmboot/internal/event"
)

func newSection(p Payload, size int64) io.ReadSeeker { return io.NewSectionReader(p, 0, size) }

// Size writes a number of bytes for people.
func Size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1000, 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	return fmt.Sprintf("%.3g %cB", f, units[i])
}

// Percent is how much of its image a node holds.
func Percent(p event.Progress) int {
	if p.Phase.Complete() {
		return 100
	}
	if p.PiecesTotal == 0 {
		return 0
	}
	return int(int64(p.PiecesDone) * 100 / int64(p.PiecesTotal))
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"size": Size, "percent": func(n Node) int { return Percent(n.Progress) },
}).Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>swarmboot</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin-bottom: 2em }
th, td { text-align: left; padding: .25em .9em .25em 0; border-bottom: 1px solid #ddd; vertical-align: top }
.n { text-align: right } .bad { color: #b00020 } .good { color: #176c2e }
</style></head><body>
<h1>swarmboot</h1>
{{range .Warnings}}<p class="bad">{{.}}</p>
{{end}}<h2>Images</h2>
<table><tr><th>Name</th><th>State</th><th class="n">Used</th><th class="n">Payload</th><th class="n">Smallest disk</th><th class="n">Sent by the server</th></tr>
{{range .Images}}<tr><td>{{.Name}}</td>
<td>{{if eq .State "ready"}}<span class="good">ready</span>{{else if eq .State "broken"}}<span class="bad">broken: {{.Reason}}</span>{{else}}{{.State}} {{.Percent}} %{{end}}</td>
<td class="n">{{if .UsedBytes}}{{size .UsedBytes}}{{end}}</td><td class="n">{{if .PayloadLength}}{{size .PayloadLength}}{{end}}</td>
<td class="n">{{if .MinDiskSize}}{{size .MinDiskSize}}{{end}}</td><td class="n">{{size .Uploaded}}</td></tr>
{{else}}<tr><td colspan="6">none</td></tr>
{{end}}</table>
<h2>Nodes</h2>
<table><tr><th>Node</th><th>Address</th><th>Switch and port</th><th>Image</th><th>Disk</th><th>Phase</th><th class="n">Done</th><th class="n">Rate</th><th class="n">From the server</th><th class="n">From nodes</th><th class="n">Sent to nodes</th><th></th></tr>
{{range .Nodes}}<tr><td>{{.Node}}</td><td>{{.Addr}}</td><td>{{.Switch}}</td><td>{{.Image}}</td><td>{{.Disk}}</td>
<td>{{if .Lost}}<span class="bad">lost</span> in {{.Phase}}{{else if eq .Phase "failed"}}<span class="bad">failed</span>{{else if eq .Phase "done"}}<span class="good">done</span>{{else}}{{.Phase}}{{end}}</td>
<td class="n">{{percent .}} %</td><td class="n">{{if .Rate}}{{size .Rate}}/s{{end}}</td><td class="n">{{size .FromServer}}</td><td class="n">{{size .FromNodes}}</td><td class="n">{{size .Uploaded}}</td>
<td>{{if .Error}}<span class="bad">{{.Error}}</span>{{else}}{{range .Warnings}}<span class="bad">{{.}}</span> {{end}}{{if eq .Phase "plan"}}<pre>{{.Message}}</pre>{{else}}{{.Message}}{{end}}{{end}}{{range .Arrays}} {{.}}{{end}}</td></tr>
{{else}}<tr><td colspan="12">none</td></tr>
{{end}}</table>
</body></html>
`))

// page is the status page; it reloads itself.
func (h *handler) page(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		Warnings []string
		Images   []ImageInfo
		Nodes    []Node
	}{h.warnings(), h.Images.List(), h.Nodes.List()})
	if err != nil {
		h.Logger.Error("status page", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = w.Write(b.Bytes()) // a reader who is gone needs no page
}
