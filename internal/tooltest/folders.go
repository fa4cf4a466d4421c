package tooltest

import (
	"os"
	"path/filepath"
	"strings"
)

// inFolder tells a test that Folders runs it once more, and where.
const inFolder = "TOOLTEST_FOLDER"

// Folders runs the test with this name once more, under strace, and returns in order what that did to dir: "mkdir a", "sync a", "rename a/b"
// with names below dir, which itself is ".". The test asks Inside where it is.
func Folders(t T, test, dir string) []string {
	t.Helper()
	log := filepath.Join(dir, "strace")
	Run(t, "strace", "-f", "-y", "-o", log, "-e", "trace=mkdir,mkdirat,rename,renameat,renameat2,fsync", "-E", inFolder+"="+dir,
		os.Args[0], "-test.run=^"+test+"$")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var did []string
	for line := range strings.Lines(string(b)) {
		i := strings.LastIndex(line, dir) // where a rename goes to
		if i < 0 {
			continue
		}
		name := strings.Trim(line[i+len(dir):][:strings.IndexAny(line[i+len(dir):], `>"`)], "/")
		if name == "" {
			name = "."
		}
		switch {
		case strings.Contains(line, " mkdir"):
			did = append(did, "mkdir "+name)
		case strings.Contains(line, " rename"):
			did = append(did, "rename "+name)
		default:
			did = append(did, "sync "+name)
		}
	}
	return did
}

// Inside returns the folder in which a test that Folders runs is to work, and "" in any other run.
func Inside() string { return os.Getenv(inFolder) }
