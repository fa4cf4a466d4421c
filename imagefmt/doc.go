// Package imagefmt reads and writes disk images: manifest, index, frames, pieces and metainfo. FORMAT.md beside it is
// the description of the format. The package makes no OS calls and uses no network: it works on io.ReaderAt and
// io.WriterAt.
package imagefmt
