package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
)

// hostKey is a pair of files as ssh-keygen makes them.
type hostKey struct {
	name            string // rsa, ecdsa, ed25519
	private, public []byte
}

const rsaBits = 3072 // as ssh-keygen

// generateKeys makes the keys that "ssh-keygen -A" makes.
func generateKeys(comment string) ([]hostKey, error) {
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	r, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, err
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		return nil, err
	}
	edBlob, err := publicBlob(edPublic)
	if err != nil {
		return nil, err
	}
	blocks := []struct {
		name   string
		public crypto.PublicKey
		block  *pem.Block
	}{
		{"ed25519", edPublic, &pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: opensshKey(edBlob, edPrivate, comment)}},
		{"ecdsa", &ec.PublicKey, &pem.Block{Type: "EC PRIVATE KEY", Bytes: ecDER}},
		{"rsa", &r.PublicKey, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(r)}},
	}
	var keys []hostKey
	for _, b := range blocks {
		line, err := publicLine(b.public, comment)
		if err != nil {
			return nil, err
		}
		keys = append(keys, hostKey{b.name, pem.EncodeToMemory(b.block), line})
	}
	return keys, nil
}

// publicLine is a line of a .pub file.
func publicLine(key crypto.PublicKey, comment string) ([]byte, error) {
	blob, err := publicBlob(key)
	if err != nil {
		return nil, err
	}
	kind := blob[4 : 4+binary.BigEndian.Uint32(blob)]
	return fmt.Appendf(nil, "%s %s %s\n", kind, base64.StdEncoding.EncodeToString(blob), comment), nil
}

// publicBlob is a public key as SSH sends it: RFC 4253, section 6.6; RFC 5656, section 3.1; RFC 8709, section 4.
func publicBlob(key crypto.PublicKey) ([]byte, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return fields([]byte("ssh-ed25519"), k), nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		return fields([]byte("ecdsa-sha2-nistp256"), []byte("nistp256"), point), err
	case *rsa.PublicKey:
		return fields([]byte("ssh-rsa"), mpint(big.NewInt(int64(k.E))), mpint(k.N)), nil
	}
	return nil, fmt.Errorf("key of type %T", key)
}

// fields joins strings, each after its length (RFC 4251, section 5).
func fields(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// mpint is a positive number without its length: a zero byte keeps the first bit from being a sign.
func mpint(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// opensshKey is OpenSSH's format of private keys, which is the only one that ssh takes for Ed25519 (PROTOCOL.key in OpenSSH).
func opensshKey(blob []byte, key ed25519.PrivateKey, comment string) []byte {
	var check [4]byte
	rand.Read(check[:]) //nolint:errcheck // never fails since Go 1.24
	secret := append(check[:], check[:]...)
	secret = append(secret, fields([]byte("ssh-ed25519"), key.Public().(ed25519.PublicKey), key, []byte(comment))...)
	for pad := byte(1); len(secret)%8 != 0; pad++ {
		secret = append(secret, pad)
	}
	b := append([]byte("openssh-key-v1\x00"), fields([]byte("none"), []byte("none"), nil)...)
	b = binary.BigEndian.AppendUint32(b, 1) // number of keys
	return append(b, fields(blob, secret)...)
}
