// Package cli is what every command shares: exit codes, help texts, a context that ends on
// signals, and the version.
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
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
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

// Context returns a context that ends on SIGINT or SIGTERM, of which a second one ends the program at once, the system's default; on
// SIGHUP, unless that is ignored as under nohup; and when nobody reads standard output or error any more. In the last case stop does not
// return: the program ends as without the context, by SIGPIPE and without a word.
func Context() (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel)
	left := make(chan os.Signal, 4) // those come several times: from the kernel and from the shell; at every write
	signal.Notify(left, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(left, syscall.SIGHUP)
	}
	unread := make(chan []*os.File, 1)
	go func() {
		var files []*os.File
		for s := range left {
			if s == syscall.SIGPIPE {
				files = unreadOutput() // none: it was a connection, whose error is dealt with where it is written to
			}
			if s == syscall.SIGHUP || len(files) > 0 {
				cancel()
			}
		}
		unread <- files
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(left)
		close(left)
		cancel()
		for _, f := range <-unread {
			f.WriteString("\n") //nolint:errcheck // it does not return, see package signal
		}
	})
}

// unreadOutput is what of standard output and error nobody reads.
func unreadOutput() (files []*os.File) {
	for i, f := range []*os.File{os.Stdout, os.Stderr} {
		p := []unix.PollFd{{Fd: int32(syscall.Stdout + i)}} // File.Fd would make it blocking
		if n, err := unix.Poll(p, 0); err == nil && n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
			files = append(files, f)
		}
	}
	return files
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
