package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// serveVariable makes this test program a web server that prints its address.
const serveVariable = "LAB_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(makeVariable); dir != "" {
		fmt.Fprintln(os.Stderr, makeAll(dir)) // it does not return when all is well
		os.Exit(1)
	}
	if os.Getenv(serveVariable) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", net.JoinHostPort(Address, "0"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	_ = http.Serve(l, http.NotFoundHandler())
}

func TestNetworkIsItsOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/run/netns", n.name)
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}()

	// The namespace has a loopback, the bridge and its port; the default route of the host is not there.
	out, err := n.Command(ctx, "ip", "route").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); !strings.HasPrefix(got, "10.99.0.0/24 dev br0") || strings.Contains(got, "\n") {
		t.Errorf("routes in the namespace: %q", got)
	}

	// A client from outside reaches a server inside.
	serverCtx, stop := context.WithCancel(ctx)
	server := n.Command(serverCtx, os.Args[0])
	server.Env = append(os.Environ(), serveVariable+"=1")
	pipe, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = server.Wait() }()
	address, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(address) + "/"
	resp, err := n.HTTPClient().Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET %s: %s", url, resp.Status)
	}
	if resp, err := (&http.Client{Timeout: time.Second}).Get(url); err == nil {
		_ = resp.Body.Close()
		t.Errorf("%s can be reached from outside the namespace", url)
	}
}

func TestMachineConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n, err := NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	vm, err := n.Start(ctx, Machine{
		Name: "panic", MAC: "52:54:00:99:00:01", Memory: 256, NIC: "virtio-net-pci",
		Kernel: "../../build/kernel/cloud/vmlinuz", Initrd: empty, Append: "console=ttyS0 quiet panic=0",
	}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Stop()
	// There is no root file system: the wait must end by itself, with the kernel's words.
	_, err = vm.Console.Wait(ctx, regexp.MustCompile("never printed"))
	if err == nil || !strings.Contains(err.Error(), "Unable to mount root fs") {
		t.Errorf("the console of a kernel without a root: %v", err)
	}
	vm.Stop()
	if log, err := os.ReadFile(vm.Log); err != nil || !strings.Contains(string(log), "Kernel panic") {
		t.Errorf("the log does not have the panic (%v)", err)
	}
}
