// Package cli is what every command shares: exit codes, help texts, a context that ends on
// SIGINT and SIGTERM, and the version.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Exit codes of every command.
const (
	CodeDone        = 0
	CodeOther       = 1 // anything without a code of its own
	CodeUsage       = 2 // bad parameters
	CodeDisk        = 3 // no disk matches, or several do
	CodeTooSmall    = 4 // the disk is smaller than the image needs
	CodeIO          = 5 // reading or writing a disk or file failed
	CodeVerify      = 6 // data does not match its hash
	CodeUnreachable = 7 // the server does not answer, or nobody offers a piece
	CodeInterrupted = 8
)

// ExitCodes is the list of exit codes for help texts.
const ExitCodes = `Exit codes:
  0  done
  1  another error
  2  bad parameters
  3  no disk matches, or more than one does
  4  the disk is too small
  5  input/output error
  6  verification failed: data does not match its hash
  7  server unreachable, or nobody offers the data
  8  interrupted
`

// Help prints what a command's --help shows: text, the options of f and the exit codes. f prints to w from then on.
func Help(w io.Writer, text string, f *flag.FlagSet) {
	fmt.Fprint(w, text)
	f.SetOutput(w)
	f.PrintDefaults()
	fmt.Fprint(w, "\n", ExitCodes)
}

// IsHelp says whether an argument asks for help, in the ways that package flag knows.
func IsHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// WithCode returns err with an exit code; nil stays nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codeError{code, err}
}

// Usagef returns an error that ends a command with CodeUsage.
func Usagef(format string, args ...any) error {
	return WithCode(CodeUsage, fmt.Errorf(format, args...))
}

// Code returns the exit code of err: the outermost one given by WithCode,
// CodeInterrupted for a cancelled context, else CodeOther.
func Code(err error) int {
	var ce *codeError
	switch {
	case err == nil:
		return CodeDone
	case errors.As(err, &ce):
		return ce.code
	case errors.Is(err, context.Canceled):
		return CodeInterrupted
	}
	return CodeOther
}

// Context returns a context that ends on SIGINT or SIGTERM. A second signal
// ends the program at once, the system's default.
func Context() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Version is the module version or VCS revision that the toolchain recorded, or "devel".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}
