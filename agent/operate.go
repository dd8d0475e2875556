// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"gitlab.com/dynors/sirrat/agent/history"
	"gitlab.com/dynors/sirrat/agent/socket"
	"gitlab.com/dynors/sirrat/agent/state"
)

// historyFolder within the data folder.
const historyFolder = "history"

// socketRetry is the wait after the control socket could not be opened.
const socketRetry = 30 * time.Second

// answerCommands serves the control socket. The agent goes on without it when the disk refuses.
func (a *Agent) answerCommands(ctx context.Context) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /vitals", func(w http.ResponseWriter, _ *http.Request) {
		vitals, _ := a.monitor.read()
		socket.Answer(w, vitals)
	})
	a.answerApply(ctx, mux)
	for ctx.Err() == nil {
		if err := socket.Serve(ctx, a.options.DataDir, mux); err != nil {
			a.log.Info("commands cannot be answered; what runs is not affected", "error", err.Error())
			sleep(ctx, socketRetry)
		}
	}
}

// ReadVitals asks the agent that runs on a data folder about itself; nil when none runs.
func ReadVitals(ctx context.Context, dataDir string) (*Vitals, error) {
	v := &Vitals{}
	err := socket.Get(ctx, dataDir, "/vitals", nil, v)
	if errors.Is(err, socket.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// journal is the history in a data folder.
func journal(dataDir string) *history.Journal {
	return history.Open(filepath.Join(dataDir, historyFolder))
}

// record adds to the history what is new in the state on disk. It hinders nothing when it cannot be written.
func (w *worker) record() {
	if w.recorder == nil {
		var err error
		if w.recorder, err = journal(w.agent.options.DataDir).Recorder(w.key); err != nil {
			w.log.Info("history cannot be read", "error", err.Error())
		}
	}
	news, err := w.recorder.Note(w.disk, time.Now())
	if err != nil {
		w.log.Info("history cannot be written", "error", err.Error())
	}
	for _, entry := range news {
		w.agent.monitor.phase(entry.Phase)
	}
}

// tellDoing notes for the commands on this server what is being done.
func (w *worker) tellDoing() {
	what := ""
	if attempt := w.disk.Attempt; attempt != nil {
		what = attempt.Phase
		if w.live.uid == attempt.UID && w.live.message != "" {
			what = w.live.message
		}
	} else if current := w.disk.Current; current != nil && current.HealthySince.IsZero() {
		what = w.messageFor(current.UID)
	}
	w.agent.monitor.doing(w.key.String(), what)
}

// ReadHistory reads what happened to the rollouts of an environment, or of all in a data folder, oldest first.
func ReadHistory(dataDir string, only *state.Key) ([]history.Entry, error) {
	j := journal(dataDir)
	keys := []state.Key{}
	if only != nil {
		keys = append(keys, *only)
	} else {
		var err error
		if keys, err = j.Keys(); err != nil {
			return nil, err
		}
	}
	all := []history.Entry{}
	for _, key := range keys {
		entries, err := j.Read(key)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}
