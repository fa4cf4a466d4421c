package server

import (
	"fmt"
	"time"

	"swarmboot/internal/catalog"
	"swarmboot/internal/netboot"
	"swarmboot/internal/web"
)

// images shows the catalog to package web.
type images struct{ s *server }

func (v images) List() []web.ImageInfo {
	list := v.s.catalog.List()
	out := make([]web.ImageInfo, 0, len(list))
	for _, st := range list {
		info := web.ImageInfo{Name: st.Name, State: string(st.State), Percent: st.Percent, Reason: st.Reason}
		if im := st.Image; im != nil {
			m := im.Manifest
			info.Created, info.DiskSize, info.MinDiskSize, info.UsedBytes = m.Created, m.DiskSize, m.MinDiskSize, m.UsedBytes
			info.PayloadLength, info.Layout, info.InfoHash = m.PayloadLength, string(m.Layout), m.InfoHash
			info.Uploaded = v.s.seeder.Uploaded(im.Metainfo.InfoHash)
		}
		out = append(out, info)
	}
	return out
}

func (v images) Manifest(name string) ([]byte, bool) {
	im, ok := v.s.catalog.Get(name)
	if !ok {
		return nil, false
	}
	return im.ManifestJSON, true
}

func (v images) Torrent(name, announce string) ([]byte, bool) {
	im, ok := v.s.catalog.Get(name)
	if !ok {
		return nil, false
	}
	return im.Metainfo.Marshal(announce), true
}

func (v images) Payload(name string) (web.Payload, int64, time.Time, bool) {
	im, ok := v.s.catalog.Get(name)
	if !ok {
		return nil, 0, time.Time{}, false
	}
	return im.Payload, im.Metainfo.Length, im.ModTime, true
}

// script decides what a machine that boots from the network does.
func (s *server) script(r web.BootRequest) (string, error) {
	if r.MAC == "" {
		return netboot.FirstScript(r.Base), nil
	}
	if d, ok := s.nodes.Deployed(r.MAC, r.UUID); ok {
		s.Logger.Info("machine boots from its disk: it is deployed", "node", r.MAC, "image", d.Image)
		where := "here"
		if d.ByUUID != "" {
			where = "to the machine with this SMBIOS UUID, then " + d.ByUUID + ","
		}
		return netboot.LocalScript(fmt.Sprintf("%s was deployed %s on %s; booting from the disk. To deploy again: swarmboot status --redeploy %s",
			d.Image, where, d.Time.Format("2006-01-02 15:04 MST"), r.MAC)), nil
	}
	if err := s.folder.Same(); err != nil {
		// The catalog finds it at its next look, and the server ends. Whose list this folder's is nobody knows.
		return netboot.WaitScript(r.Base, err.Error()), nil
	}
	return s.deployScript(r.Base, s.catalog.List())
}

// deployScript chooses among the images. An image is never chosen by itself
// where another one is, was or might still turn up: to be the last one left is
// no order to overwrite disks.
func (s *server) deployScript(base string, all []catalog.Status) (string, error) {
	var choices []netboot.Choice
	checking := 0
	for _, st := range all {
		if s.Image != "" && st.Name != s.Image {
			continue
		}
		switch st.State {
		case catalog.StateReady:
			title := fmt.Sprintf("(%s, made %s)", web.Size(st.Image.Manifest.UsedBytes), st.Image.Manifest.Created.Format("2006-01-02"))
			choices = append(choices, netboot.Choice{Name: st.Name, Title: title})
		case catalog.StateChecking:
			checking++
		}
	}
	switch {
	case s.Image != "" && len(choices) == 1:
		return netboot.DeployScript(base, s.Image, s.Args)
	case checking > 0:
		return netboot.WaitScript(base, "images are still being checked"), nil
	case s.Image != "":
		return netboot.WaitScript(base, "image "+s.Image+" is not ready"), nil
	case len(choices) == 0:
		return netboot.WaitScript(base, "no image is ready"), nil
	case len(all) == 1 && !s.catalog.Several():
		return netboot.DeployScript(base, choices[0].Name, s.Args)
	}
	return netboot.MenuScript(base, choices, s.Args)
}
