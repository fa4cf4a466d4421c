package imagefmt

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/anacrolix/torrent/bencode"
)

func testMetainfo() *Metainfo {
	mi := &Metainfo{Name: "x.payload", PieceLength: 64 << 10, Length: 100000, Pieces: bytes.Repeat([]byte{7}, 40), Private: true}
	mi.IndexSHA256[3] = 9
	mi.encodeInfo()
	return mi
}

// TestMetainfoByAnotherReader lets another bencode library judge what Marshal writes.
func TestMetainfoByAnotherReader(t *testing.T) {
	mi := testMetainfo()
	b := mi.Marshal("http://10.0.0.1:8080/announce")
	var got struct {
		Announce string        `bencode:"announce"`
		Info     bencode.Bytes `bencode:"info"`
	}
	if err := bencode.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Announce != "http://10.0.0.1:8080/announce" || !bytes.Equal(got.Info, mi.InfoBytes) {
		t.Fatalf("read %+v", got)
	}
	var info map[string]any
	if err := bencode.Unmarshal(got.Info, &info); err != nil {
		t.Fatal(err)
	}
	again, err := bencode.Marshal(info)
	if err != nil || !bytes.Equal(again, mi.InfoBytes) {
		t.Fatalf("not canonical: %v\n%q\n%q", err, again, mi.InfoBytes)
	}
	if info["private"] != int64(1) || info["swarmboot-index-sha256"] != string(mi.IndexSHA256[:]) {
		t.Fatalf("info %q", info)
	}
	parsed, err := ParseMetainfo(b)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.InfoHash != mi.InfoHash || parsed.Name != mi.Name || !parsed.Private || parsed.IndexSHA256 != mi.IndexSHA256 || !bytes.Equal(parsed.Marshal(""), mi.Marshal("")) {
		t.Fatalf("parsed %+v", parsed)
	}
}

func TestBadMetainfo(t *testing.T) {
	good := string(testMetainfo().Marshal(""))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":             {"", ErrFormat},
		"not a dict":        {"i1e", ErrFormat},
		"no info":           {"d1:ai1ee", ErrFormat},
		"trailing":          {good + "e", ErrFormat},
		"cut short":         {good[:len(good)-10], ErrFormat},
		"unsorted":          {"d1:bi1e1:ai1ee", ErrFormat},
		"twice":             {"d1:ai1e1:ai1ee", ErrFormat},
		"leading zero":      {"d1:ai01ee", ErrFormat},
		"minus zero":        {"d1:ai-0ee", ErrFormat},
		"huge number":       {"d1:ai99999999999999999999ee", ErrFormat},
		"huge string":       {"d1:a9999999999:x", ErrFormat},
		"nested":            {"d1:a" + strings.Repeat("l", 1<<20), ErrFormat},
		"nested dicts":      {"d1:a" + strings.Repeat("d1:a", 1<<20), ErrFormat},
		"too long":          {strings.Repeat("d", MaxMetainfoLength+1), ErrLimit},
		"piece length":      {strings.Replace(good, "i65536e", "i65535e", 1), ErrFormat},
		"length":            {strings.Replace(good, "i100000e", "i300000e", 1), ErrFormat},
		"negative length":   {strings.Replace(good, "i100000e", "i-10000e", 1), ErrLimit},
		"immense length":    {strings.Replace(good, "i100000e", "i9000000000000000000e", 1), ErrLimit},
		"empty name":        {strings.Replace(good, "9:x.payload", "0:", 1), ErrFormat},
		"hash of the index": {strings.Replace(good, "-sha25632:", "-sha25631:", 1), ErrFormat},
	} {
		if mi, err := ParseMetainfo([]byte(c.text)); !errors.Is(err, c.want) || mi != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestMetainfoOfAnotherImage(t *testing.T) {
	im := build(t, randomSource(5, 1<<20, 4096), WriterOptions{})
	for name, change := range map[string]func(m *Manifest){
		"info-hash": func(m *Manifest) { m.InfoHash = strings.Repeat("0", 40) }, "name": func(m *Manifest) { m.Name = "y" },
		"piece length": func(m *Manifest) { m.PieceLength *= 2 }, "length": func(m *Manifest) { m.PayloadLength++ },
		"index SHA-256": func(m *Manifest) { m.IndexSHA256 = strings.Repeat("0", 64) },
	} {
		m := *im.m
		change(&m)
		if err := im.mi.Check(&m); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
