package target

import (
	"errors"
	"os"
	"testing"
)

// Once the kernel is loaded, what is left over does not make that a failure.
func TestFinish(t *testing.T) {
	stays, failed := errors.New("stays"), errors.New("not loaded")
	for _, tt := range []struct{ closed, loaded, wantLeft, wantErr error }{
		{nil, nil, nil, nil}, {stays, nil, stays, nil}, {nil, failed, nil, failed}, {stays, failed, nil, failed},
	} {
		m := &mounter{dir: t.TempDir(), closeRoot: func() error { return tt.closed }}
		var e Entry
		err := m.finish(&e, tt.loaded)
		if !errors.Is(e.Left, tt.wantLeft) || !errors.Is(err, tt.wantErr) || (err == nil) != (tt.loaded == nil) {
			t.Errorf("closed: %v, loaded: %v: left %v, error %v", tt.closed, tt.loaded, e.Left, err)
		}
		if tt.loaded != nil && tt.closed != nil && !errors.Is(err, stays) {
			t.Errorf("%v does not say what is left", err)
		}
		if _, err := os.Stat(m.dir); !errors.Is(err, os.ErrNotExist) {
			t.Error("the directory is left")
		}
	}
}
