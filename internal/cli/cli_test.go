package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

func TestCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, CodeDone},
		{errors.New("x"), CodeOther},
		{WithCode(CodeIO, nil), CodeDone},
		{Usagef("bad %d", 1), CodeUsage},
		{fmt.Errorf("step: %w", WithCode(CodeTooSmall, errors.New("x"))), CodeTooSmall},
		{WithCode(CodeVerify, WithCode(CodeIO, errors.New("x"))), CodeVerify}, // the outermost
		{fmt.Errorf("x: %w", context.Canceled), CodeInterrupted},
		{WithCode(CodeUnreachable, context.Canceled), CodeUnreachable},
	} {
		if got := Code(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
	for code := CodeDone; code <= CodeInterrupted; code++ {
		if !strings.Contains(ExitCodes, fmt.Sprintf("\n  %d  ", code)) {
			t.Errorf("code %d is not explained", code)
		}
	}
}

func TestHelp(t *testing.T) {
	f := flag.NewFlagSet("x", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Bool("y", false, "a flag")
	var b bytes.Buffer
	Help(&b, "Usage: x\n\n", f)
	if want := "Usage: x\n\n  -y\ta flag\n\n" + ExitCodes; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// A peer that has gone away is no reason to end: the kernel sends the same signal for it.
func TestContextOutlivesConnections(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("under nohup")
	}
	ctx, stop := Context()
	defer stop()
	for range 100 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		w.Close()
	}
	if err := ctx.Err(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done() // it came behind the others
}
