package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"latchkey/internal/openroutertest"
	"latchkey/internal/workerdrun"
)

// Secrets for the time of the run. They guard nothing.
const (
	jwtSecret       = "idle-idle-idle-idle-idle-idle-idle"
	provisioningKey = "sk-or-v1-stand-in-for-idle"
)

// workerd is latchkey that runs, and its OpenRouter.
type workerd struct {
	*workerdrun.Process
	keys   *openroutertest.Server
	server *http.Server // of keys
	dir    string
}

// start runs what `make dry-run` has bundled.
func start(ctx context.Context, root string) (w *workerd, err error) {
	w = &workerd{keys: openroutertest.New(openroutertest.Options{ProvisioningKey: provisioningKey})}
	w.server = &http.Server{Handler: w.keys}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "latchkey-idle-"); err != nil {
		return w, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return w, err
	}
	go func() { _ = w.server.Serve(listener) }() // it ends by Close
	w.Process, err = workerdrun.Start(ctx, root, workerdrun.Config{
		Entry: workerdrun.Entry, Flags: workerdrun.Flags(), State: filepath.Join(w.dir, "state"), Log: w.log(),
		Env: map[string]string{
			"JWT_SECRET_CLOUD": jwtSecret, "OPENROUTER_PROVISIONING_API_KEY": provisioningKey, "OPENROUTER_TIMEOUT": "50s",
			"KEY_ENCRYPTION_KEY":  base64.StdEncoding.EncodeToString([]byte("idle-idle-idle-idle-idle-idle-id")),
			"OPENROUTER_BASE_URL": "http://" + listener.Addr().String() + "/api/v1",
		},
	})
	if err == nil && w.PID == 0 {
		err = errors.New("what workerd takes is read from /proc, which takes a Linux")
	}
	return w, err
}

// stop ends what was started, however far that came.
func (w *workerd) stop() error {
	if w.Process != nil {
		w.Stop()
	}
	w.keys.Close()
	return errors.Join(w.server.Close(), os.RemoveAll(w.dir))
}

// log is the file that workerd logs to.
func (w *workerd) log() string { return filepath.Join(w.dir, "log") }

// state says whether workerd lives, and how its log ends.
func (w *workerd) state() string {
	state := "workerd lives"
	if _, err := w.Use(); err != nil {
		state = err.Error()
	}
	log, _ := os.ReadFile(w.log()) // without one it is empty
	return fmt.Sprintf("%s; its log ends with\n%s", state, log[max(0, len(log)-2000):])
}
