// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
)

// world is a journal in a folder, cursors and receivers that outlive dispatchers.
type world struct {
	t       *testing.T
	journal *journal.Journal
	logs    logs

	mu        sync.Mutex
	cursors   map[string]map[string]int64
	stores    int
	receivers map[string][]Receiver
	broken    error // of cursors and receivers
	mails     []string
	refuse    func(ctx context.Context, to, subject string) error
	gaveUp    []string
}

func newWorld(t *testing.T) *world {
	key, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	store, err := archive.OpenDirectory(t.TempDir(), func(archive.Torn) {})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, cursors: map[string]map[string]int64{}, receivers: map[string][]Receiver{}}
	if w.journal, err = journal.Open(store, key, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.journal.Close(); _ = store.Close() })
	return w
}

func (w *world) Load(_ context.Context, uid string) (map[string]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cursors[uid], w.broken
}

func (w *world) Store(_ context.Context, uid string, c map[string]int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == nil {
		w.cursors[uid] = c
		w.stores++
	}
	return w.broken
}

func (w *world) Receivers(_ context.Context, uid string) ([]Receiver, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.receivers[uid]), w.broken
}

func (w *world) Send(ctx context.Context, to, subject, _ string) error {
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil {
		if err := refuse(ctx, to, subject); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mails = append(w.mails, to+" "+subject[strings.LastIndexByte(subject, ' ')+1:])
	return nil
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) got(to string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.mails {
		if rest, ok := strings.CutPrefix(m, to+" "); ok {
			out = append(out, rest)
		}
	}
	return out
}

func (w *world) declare(uid string, names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.receivers[uid] = nil
	for _, n := range names {
		w.receivers[uid] = append(w.receivers[uid], Receiver{Name: n, Language: "en", Email: []string{n}})
	}
}

// deployed records that a release is healthy in an environment of that name: the last word of the event's subject.
func (w *world) deployed(uid string, environments ...string) {
	w.t.Helper()
	for _, e := range environments {
		w.phase(uid, e, "Healthy")
	}
}

func (w *world) phase(uid, environment, phase string) {
	w.t.Helper()
	err := w.journal.Append(context.Background(), journal.Fact{
		Project: "supergest", ProjectUID: uid, Kind: journal.KindDeployment, Subject: "environment/u/" + environment, Actor: "sirrat",
		Data: map[string]any{"release": "a1b2c3d", "environment": environment, "phase": phase},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintln(&l.text, prefix, args)
	}, funcr.Options{Verbosity: 9})
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (w *world) options() Options {
	return Options{
		Journal: w.journal, Cursors: w, Projects: w, Mail: w, BaseURL: base, Log: w.logs.logger(),
		GaveUp: func(_ context.Context, uid, receiver string, e Event, err error) {
			w.set(func() { w.gaveUp = append(w.gaveUp, fmt.Sprintf("%s %s %s: %v", receiver, e.Kind, e.Environment, err)) })
		},
	}
}

// heard is a journal that tells when somebody listens.
type heard struct {
	Journal
	listening chan struct{}
}

func (h heard) Subscribe(f func(journal.Entry)) {
	h.Journal.Subscribe(f)
	close(h.listening)
}

// start runs a dispatcher until the returned function is called.
func (w *world) start(change ...func(*Options)) (stop func()) {
	w.t.Helper()
	o := w.options()
	for _, c := range change {
		c(&o)
	}
	listening := make(chan struct{})
	o.Journal = heard{o.Journal, listening}
	d, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Start(ctx) }()
	<-listening // to a receiver that is new, nothing is told of what came before
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		})
	}
	return stop
}

func (w *world) expect(to string, want ...string) {
	w.t.Helper()
	if got := w.got(to); !slices.Equal(got, want) {
		w.t.Errorf("%s got %v, want %v", to, got, want)
	}
}

// In a bubble of synctest a leaked goroutine fails the test: it ends with a deadlock.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestToldInOrderAndOnlyOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed("p1", "before")
		w.declare("p1", "a", "b")
		w.set(func() { w.receivers["p1"][1].On = []Kind{RolledBack} })
		stop := w.start()
		synctest.Wait()
		w.deployed("p1", "e1", "e2", "e3")
		w.phase("p1", "e3", "Unhealthy")
		w.phase("p1", "e3", "Healthy") // not deployed again
		w.phase("p1", "e3", "RolledBack")
		w.phase("p1", "e3", "Deploying")
		w.phase("p1", "e3", "Healthy")
		synctest.Wait()
		w.expect("a", "e1", "e2", "e3", "e3", "e3")
		w.expect("b", "e3")
		stop()
		w.deployed("p1", "e4") // nobody runs
		stop = w.start()
		synctest.Wait()
		w.expect("a", "e1", "e2", "e3", "e3", "e3", "e4")
		stop()
		if c := w.cursors["p1"]; !maps.Equal(c, map[string]int64{"a": 10, "b": 10}) {
			t.Errorf("cursors %v", c)
		}
	})
}

func TestNewReceiverAndNewProjectStartFromNow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed("p1", "old")
		stop := w.start()
		defer stop()
		synctest.Wait()
		w.declare("p1", "late")
		w.deployed("p1", "e1")
		w.declare("p2", "first")
		w.deployed("p2", "f1", "f2") // its very first entry
		synctest.Wait()
		w.expect("late", "e1")
		w.expect("first", "f1", "f2")
		w.declare("p1", "late", "later")
		w.deployed("p1", "e2")
		synctest.Wait()
		w.expect("later", "e2")
		w.declare("p1", "later")
		w.deployed("p1", "e3")
		synctest.Wait()
		w.expect("late", "e1", "e2")
		stop()
		if c := w.cursors["p1"]; !maps.Equal(c, map[string]int64{"later": 4}) {
			t.Errorf("cursors %v", c)
		}
	})
}

func TestRetriesWithGrowingPausesAndGivesUpAfterADay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a", "b")
		var attempts []time.Time
		w.refuse = func(_ context.Context, to, subject string) error {
			if to == "a" && strings.HasSuffix(subject, "e1") {
				attempts = append(attempts, time.Now())
				return errors.New("busy")
			}
			return nil
		}
		failed := testutil.ToFloat64(notificationsTotal.WithLabelValues("Deployed", outcomeFailed))
		gaveUp := testutil.ToFloat64(notificationsTotal.WithLabelValues("Deployed", outcomeGaveUp))
		stop := w.start()
		defer stop()
		w.deployed("p1", "e1")
		w.deployed("p1", "e2")
		start := time.Now()
		synctest.Wait()
		w.expect("b", "e1", "e2") // the other is not held up
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		w.expect("a")
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("a", "e2") // still in order, and not lost with the first
		if len(w.gaveUp) != 1 || w.gaveUp[0] != "a Deployed e1: address 1 of 1: busy" {
			t.Errorf("gave up: %v", w.gaveUp)
		}
		if last := attempts[len(attempts)-1].Sub(start); last != 24*time.Hour {
			t.Errorf("last attempt after %v", last)
		}
		if n := len(attempts); n < 60 || n > 250 {
			t.Errorf("%d attempts", n)
		}
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i].Sub(attempts[i-1]); i < len(attempts)-1 && (pause < defaultFirstRetry/2 || pause > defaultLongestRetry*3/2) {
				t.Errorf("pause %d: %v", i, pause)
			}
		}
		if got := testutil.ToFloat64(notificationsTotal.WithLabelValues("Deployed", outcomeFailed)) - failed; int(got) != len(attempts) {
			t.Errorf("%v failures counted", got)
		}
		if got := testutil.ToFloat64(notificationsTotal.WithLabelValues("Deployed", outcomeGaveUp)) - gaveUp; got != 1 {
			t.Errorf("%v given up counted", got)
		}
		if !strings.Contains(w.logs.String(), "gave up telling a receiver") {
			t.Error("the log does not say so")
		}
	})
}

func TestPermanentRefusalIsGivenUpAtOnceForThatAddressAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.receivers["p1"] = []Receiver{{Name: "team", Email: []string{"gone", "slow", "fine"}}}
		slow := 0
		w.refuse = func(_ context.Context, to, _ string) error {
			switch to {
			case "gone":
				return &mailError{text: "550", permanent: true}
			case "slow":
				if slow++; slow < 3 {
					return errors.New("451")
				}
			}
			return nil
		}
		stop := w.start()
		defer stop()
		w.deployed("p1", "e1")
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("fine", "e1") // once, though another address was tried again
		w.expect("slow", "e1")
		if len(w.gaveUp) != 1 {
			t.Errorf("gave up: %v", w.gaveUp)
		}
	})
}

func TestHangingReceiverHoldsUpNobodyAndShutsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "hangs", "b")
		w.declare("p2", "c")
		w.refuse = func(ctx context.Context, to, _ string) error {
			if to == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		stop := w.start()
		synctest.Wait()
		var want []string
		for i := range 2*queued + 10 { // more than its queue holds
			e := fmt.Sprintf("e%d", i)
			w.deployed("p1", e)
			synctest.Wait() // the others keep up
			want = append(want, e)
		}
		w.deployed("p2", "f")
		synctest.Wait()
		w.expect("b", want...)
		w.expect("c", "f")
		w.set(func() { w.refuse = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("hangs", want...) // what its queue did not hold came from the journal
		w.set(func() { w.refuse = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() } })
		w.deployed("p1", "last")
		synctest.Wait()
		before := time.Now()
		stop()
		if time.Since(before) > time.Second {
			t.Errorf("shutting down took %v", time.Since(before))
		}
		w.set(func() { w.refuse = nil })
		stop = w.start()
		synctest.Wait()
		w.expect("hangs", append(want, "last")...)
		stop()
	})
}

// While receivers cannot be read the project's own queue overflows, and nothing is lost.
func TestOverflowOfTheProject(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a")
		stop := w.start()
		defer stop()
		w.deployed("p1", "e0")
		synctest.Wait()
		w.set(func() { w.broken = errors.New("the API server is away") })
		want := []string{"e0"}
		for i := range 3 * queued {
			e := fmt.Sprintf("e%d", i+1)
			w.deployed("p1", e)
			want = append(want, e)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("a", "e0")
		w.set(func() { w.broken = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("a", want...)
	})
}

// A crash: the cursors are as they were stored last, and what came after is told again rather than lost.
func TestCrashLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a")
		stop := w.start()
		w.deployed("p1", "e1")
		time.Sleep(2 * cursorEvery)
		synctest.Wait()
		stored := maps.Clone(w.cursors["p1"])
		w.deployed("p1", "e2")
		synctest.Wait()
		stop()
		w.cursors["p1"] = stored
		stop = w.start()
		synctest.Wait()
		stop()
		w.expect("a", "e1", "e2", "e2")
	})
}

func TestSteadyStateWritesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a")
		stop := w.start()
		defer stop()
		w.deployed("p1", "e1")
		time.Sleep(time.Minute)
		synctest.Wait()
		before := w.stores
		for range 10 {
			w.phase("p1", "e9", "Authorized")
			w.phase("p1", "e9", "Deploying")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.stores != before {
			t.Errorf("%d writes for nothing told", w.stores-before)
		}
	})
}

func TestRestoredJournalIsShorterThanTheCursors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a")
		w.cursors["p1"] = map[string]int64{"a": 99}
		w.deployed("p1", "e1")
		stop := w.start()
		defer stop()
		synctest.Wait()
		w.deployed("p1", "e2")
		synctest.Wait()
		w.expect("a", "e2")
	})
}

func TestNoMailServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.declare("p1", "a")
		stop := w.start(func(o *Options) { o.Mail = nil })
		defer stop()
		w.deployed("p1", "e1")
		synctest.Wait()
		if len(w.gaveUp) != 1 || !strings.Contains(w.gaveUp[0], "no mail server") {
			t.Errorf("%v", w.gaveUp)
		}
	})
}

// until polls a condition with a deadline, where real servers are.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("not within 20 s: ", what)
		case <-tick.C:
		}
	}
}

// Everything together with real servers, one of which fails at first: the events arrive, the webhook's address appears
// nowhere, and nothing keeps running.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	mailer := startMail(t, "plain")
	mailer.set(func() { mailer.refuse = func(string) error { return errors.New("not yet") } })
	var mu sync.Mutex
	bodies := map[string][]string{}
	var refusals atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if refusals.Add(1) <= 8 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		bodies[r.URL.Path] = append(bodies[r.URL.Path], string(body))
	}))
	defer server.Close()
	formats := []Format{Slack, Mattermost, Teams, Generic}
	receivers := []Receiver{{Name: "mail", Language: "en", Email: []string{"marie@client.example", "qa@dynors.example"}}}
	for _, f := range formats {
		address := server.URL + "/" + string(f) + "/" + secret
		receivers = append(receivers, Receiver{Name: string(f), Language: "fr", Webhook: &Webhook{Format: f, URL: func(context.Context) (string, error) { return address, nil }}})
	}
	receivers = append(receivers, Receiver{Name: "dead", Webhook: &Webhook{Format: Slack, URL: func(context.Context) (string, error) { return "http://127.0.0.1:1/" + secret, nil }}})
	w.receivers["p1"] = receivers
	stop := w.start(func(o *Options) {
		o.Mail, o.Webhooks = newSMTP(t, SMTPOptions{Addr: "smtp://" + mailer.addr}), NewWebhooks(true)
		o.FirstRetry, o.LongestRetry, o.GiveUpAfter = time.Millisecond, 5*time.Millisecond, 5*time.Second
	})
	w.deployed("p1", "e1", "e2")
	until(t, "a refused mail", func() bool { return strings.Contains(w.logs.String(), "does not take mail") })
	mailer.set(func() { mailer.refuse = nil })
	until(t, "two mails to each", func() bool { return len(mailer.got()) == 4 })
	until(t, "two posts to each", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.ContainsFunc(formats, func(f Format) bool { return len(bodies["/"+string(f)+"/"+secret]) != 2 })
	})
	until(t, "the dead one is given up", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.gaveUp) == 2 })
	stop()
	for path, b := range bodies {
		if !strings.Contains(b[0], "e1") || !strings.Contains(b[1], "e2") {
			t.Errorf("%s: out of order", path)
		}
	}
	all := w.logs.String() + strings.Join(w.gaveUp, "\n") + fmt.Sprint(bodies["/slack/"+secret], mailer.got(), w.cursors)
	if strings.Contains(all, secret) || !strings.Contains(all, "trying again") {
		t.Errorf("the address is told, or nothing is: %s", all)
	}
	var stacks strings.Builder
	until(t, "no goroutine is left", func() bool {
		stacks.Reset()
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		return !strings.Contains(stacks.String(), "notify.(*project)") && !strings.Contains(stacks.String(), "notify.(*stream)") && !strings.Contains(stacks.String(), "notify.(*Dispatcher)")
	})
	w.deployed("p1", "after the end") // blocks nobody, starts nothing
}
