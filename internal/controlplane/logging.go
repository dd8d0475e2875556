// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"slices"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// What the API server, its controllers and etcd say is of no use to an operator
// most of the time: their information goes to the given logger at chattyLevel
// and etcd's, which is finer, at traceLevel. Only errors pass at once.
const (
	chattyLevel = 1
	traceLevel  = 2
)

// errorGate says whether the errors of the API server and its loops are worth an
// operator's attention. Before the control plane is ready they try what is not
// there yet, and once it stops they watch what is no longer there; both are
// information. What makes a start or a stop fail is returned, not logged.
type errorGate struct{ isOpen atomic.Bool }

func (g *errorGate) open()  { g.isOpen.Store(true) }
func (g *errorGate) close() { g.isOpen.Store(false) }

// setupLogging sends klog, which is one per process, to logger through a gate
// that is closed. The returned logger is for the context of controllers.
func setupLogging(logger logr.Logger) (logr.Logger, *errorGate) {
	gate := new(errorGate)
	if logger.GetSink() == nil {
		logger = logr.Discard()
		klog.SetLogger(logger)
		return logger, gate
	}
	logger = logger.WithSink(gatedSink{logger.GetSink(), gate}).V(chattyLevel)
	klog.SetLogger(logger)
	return logger, gate
}

// gatedSink makes errors information while its gate is closed.
type gatedSink struct {
	logr.LogSink
	gate *errorGate
}

func (s gatedSink) Error(err error, msg string, keysAndValues ...any) {
	if s.gate.isOpen.Load() {
		s.LogSink.Error(err, msg, keysAndValues...)
		return
	}
	if s.LogSink.Enabled(chattyLevel) {
		s.LogSink.Info(chattyLevel, msg, append(slices.Clone(keysAndValues), "error", err)...)
	}
}

func (s gatedSink) WithValues(keysAndValues ...any) logr.LogSink {
	return gatedSink{s.LogSink.WithValues(keysAndValues...), s.gate}
}

func (s gatedSink) WithName(name string) logr.LogSink {
	return gatedSink{s.LogSink.WithName(name), s.gate}
}

func (s gatedSink) WithCallDepth(depth int) logr.LogSink {
	if sink, ok := s.LogSink.(logr.CallDepthLogSink); ok {
		return gatedSink{sink.WithCallDepth(depth), s.gate}
	}
	return s
}

// newEtcdLogger is a zap logger, the only kind that etcd takes, which writes to
// logger. When etcd gives up, which ends the process (a damaged log, a disk that
// does not sync), it says so whatever the gate.
func newEtcdLogger(logger logr.Logger) *zap.Logger {
	logger = logger.WithName("etcd")
	last := logger
	if gated, ok := logger.GetSink().(gatedSink); ok {
		last = logger.WithSink(gated.LogSink)
	}
	return zap.New(logrCore{logger, last})
}

// logrCore is the way from zap to logr; github.com/go-logr/zapr is the other.
type logrCore struct{ logger, last logr.Logger }

func (c logrCore) Enabled(level zapcore.Level) bool {
	switch {
	case level >= zapcore.WarnLevel:
		return true
	case level == zapcore.InfoLevel:
		return c.logger.V(traceLevel - chattyLevel).Enabled()
	default:
		return false
	}
}

func (c logrCore) With(fields []zapcore.Field) zapcore.Core {
	pairs := keysAndValues(fields)
	return logrCore{c.logger.WithValues(pairs...), c.last.WithValues(pairs...)}
}

func (c logrCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c logrCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	switch {
	case entry.Level >= zapcore.DPanicLevel:
		c.last.Error(nil, entry.Message, keysAndValues(fields)...)
	case entry.Level == zapcore.ErrorLevel:
		c.logger.Error(nil, entry.Message, keysAndValues(fields)...)
	case entry.Level == zapcore.WarnLevel:
		c.logger.Info(entry.Message, keysAndValues(fields)...)
	default:
		c.logger.V(traceLevel-chattyLevel).Info(entry.Message, keysAndValues(fields)...)
	}
	return nil
}

func (c logrCore) Sync() error { return nil }

func keysAndValues(fields []zapcore.Field) []any {
	out := make([]any, 0, 2*len(fields))
	for _, field := range fields {
		enc := zapcore.NewMapObjectEncoder()
		field.AddTo(enc)
		out = append(out, field.Key, enc.Fields[field.Key])
	}
	return out
}
