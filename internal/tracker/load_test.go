package tracker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	loadServerEnv = "SWARMBOOT_LOAD_SERVER"
	loadNodesEnv  = "SWARMBOOT_LOAD_NODES"
	loadTimeEnv   = "SWARMBOOT_LOAD_TIME"
)

func TestMain(m *testing.M) {
	if os.Getenv(loadServerEnv) != "" {
		if err := loadServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// loadServer is the child process: the tracker behind net/http, as the server has it. It ends with
// its standard input.
func loadServer() error {
	tr := New(Options{Logger: slog.New(slog.DiscardHandler)})
	tr.Register(testHash, 40000)
	tr.SetSeeder(6000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: tr, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		srv.Close()
	}()
	fmt.Println(l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// load is 20,000 nodes (or as many as said) that announce every 10 s.
type load struct {
	addr  string
	nodes int
	time  time.Duration
	mu    sync.Mutex
	took  []time.Duration
	errs  []error
}

// BenchmarkLoad is the real tracker over HTTP, in a process with one thread of Go code: -benchtime 1x. The aim is a p99 below 50 ms.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		l := &load{nodes: envInt(b, loadNodesEnv, 20000), time: time.Duration(envInt(b, loadTimeEnv, 20)) * time.Second}
		raiseFiles(b)
		server, stop := startLoadServer(b)
		l.addr = server
		began := time.Now()
		l.run()
		elapsed := time.Since(began)
		usage := stop()
		if len(l.errs) > 0 {
			b.Fatalf("%d errors, the first: %v", len(l.errs), l.errs[0])
		}
		slices.Sort(l.took)
		n := len(l.took)
		cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		b.ReportMetric(float64(n)/elapsed.Seconds(), "announces/s")
		b.ReportMetric(float64(l.took[n/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(l.took[n*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(l.took[n-1].Microseconds())/1000, "max-ms")
		b.ReportMetric(100*cpu.Seconds()/elapsed.Seconds(), "%core")
		b.ReportMetric(float64(usage.Maxrss>>10), "MB-resident")
	}
}

func envInt(t testing.TB, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// raiseFiles makes room for the connections that the tracker keeps, on both sides.
func raiseFiles(t testing.TB) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if lim.Cur < 2*keepConns {
		t.Fatalf("only %d open files are allowed, the test needs %d", lim.Cur, 2*keepConns)
	}
}

func startLoadServer(t testing.TB) (addr string, stop func() *syscall.Rusage) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), loadServerEnv+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), func() *syscall.Rusage {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage)
	}
}

// run announces each node at its own moment of every 10 s. A worker has a share of the nodes, and
// takes them in their order: the few workers stand for many machines at little cost. What is late
// because a worker was late counts.
func (l *load) run() {
	workers := 16 * runtime.NumCPU()
	end := time.Now().Add(l.time)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			if err := l.work(w, workers, end); err != nil {
				l.mu.Lock()
				l.errs = append(l.errs, err)
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func (l *load) work(w, workers int, end time.Time) error {
	var took []time.Duration
	conns := make(map[int]*loadConn)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		l.mu.Lock()
		l.took = append(l.took, took...)
		l.mu.Unlock()
	}()
	const every = 10 * time.Second
	began := time.Now()
	for round := time.Duration(0); ; round++ {
		for i := w; i < l.nodes; i += workers {
			due := began.Add(round*every + every*time.Duration(i)/time.Duration(l.nodes))
			if due.After(end) {
				return nil
			}
			time.Sleep(time.Until(due))
			c := conns[i]
			if c == nil {
				var err error
				if c, err = l.dial(i); err != nil {
					return err
				}
				conns[i] = c
			}
			kept, err := c.announce(i, int(round))
			if err != nil {
				return err
			}
			if !kept {
				c.Close()
				delete(conns, i)
			}
			took = append(took, time.Since(due))
		}
	}
}

type loadConn struct {
	net.Conn
	r *bufio.Reader
}

// dial spreads the nodes over addresses of their own: 250 racks, and ports enough.
func (l *load) dial(i int) (*loadConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/80), byte(1+i%80))}}
	c, err := d.Dial("tcp", l.addr)
	if err != nil {
		return nil, err
	}
	return &loadConn{c, bufio.NewReaderSize(c, 1024)}, nil
}

func (c *loadConn) announce(i, round int) (kept bool, err error) {
	q := query(strconv.Itoa(i), "sb_node", fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), "sb_run", "0123456789abcdef",
		"sb_done", strconv.Itoa(round*100), "uploaded", "12345678901", "downloaded", "12345678901", "port", "6881")
	if _, err := fmt.Fprintf(c, "GET /announce?%s HTTP/1.1\r\nHost: tracker\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n", q); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK || strings.Contains(string(body), "failure") {
		return false, fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return !resp.Close, nil
}
