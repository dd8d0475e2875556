// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/dynors/sirrat/agent/compose"
	"gitlab.com/dynors/sirrat/agent/disk"
	"gitlab.com/dynors/sirrat/agent/registry"
	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// What a rollout needs of a disk.
const (
	// unpackedFactor turns the compressed size of layers into the room that pulling them takes: 1 for the download, which the
	// engine keeps until it is unpacked, and 2.5 for the files. Debian's and Alpine's base images, OpenJDK's, Node's and
	// PostgreSQL's are 2.2 to 2.7 times as large unpacked as compressed.
	unpackedFactor = 3.5
	// keepFree on the engine's disk beside that: containers write logs and data there too.
	keepFree = 256 << 20
	// ownNeed is what the agent's own state and its next writes need.
	ownNeed = 16 << 20
)

// Waits for what may pass by itself: another rollout's pull, or a port whose holder is just ending.
const (
	preflightPatience = 20 * time.Second
	preflightLook     = 2 * time.Second
)

// obstacle is what stands in a rollout's way on this server.
type obstacle struct {
	reason, message string
	// passes says that it may go away without anybody doing something.
	passes bool
}

// preflight looks whether the server can carry the rollout, before anything is fetched or touched. What may pass is waited
// for, and said; what somebody must change fails at once. Either way what runs keeps running.
func (w *worker) preflight(ctx context.Context, target *resolved) error {
	info, err := w.agent.engineInfo(ctx)
	if err != nil {
		return err
	}
	images, err := w.survey(ctx, target, info)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(preflightPatience)
	for {
		found, err := w.obstacles(ctx, target, info, images)
		if err != nil {
			return err
		}
		if found == nil {
			return nil
		}
		if !found.passes || time.Now().After(deadline) {
			return &failed{found.reason, errors.New(found.message), true}
		}
		w.say(w.disk.Attempt.UID, "waits, because "+found.message)
		if err := w.pause(ctx, time.Now().Add(preflightLook), nil); err != nil {
			return err
		}
	}
}

// surveyed is what is known of an image before it is fetched.
type surveyed struct {
	ref       string
	present   bool
	platforms []registry.Platform
	remote    *registry.Image
}

// survey asks the engine about the images that it has, and the registries about the others. A registry that cannot be asked
// from here is no obstacle: the engine may know another way to it.
func (w *worker) survey(ctx context.Context, target *resolved, info compose.Info) ([]surveyed, error) {
	want := platformOf(info)
	var images []surveyed
	var absent []int
	for _, ref := range target.images() {
		image, present, err := w.agent.engine.Image(ctx, ref)
		if err != nil {
			return nil, err
		}
		s := surveyed{ref: ref, present: present}
		if present {
			s.platforms = []registry.Platform{image.Platform}
		} else {
			absent = append(absent, len(images))
		}
		images = append(images, s)
	}
	if len(absent) == 0 {
		return images, nil
	}
	var missing []string
	for _, i := range absent {
		missing = append(missing, images[i].ref)
	}
	if err := w.bundleNeeded(missing); err != nil { // nobody else is to be asked, for the images or for credentials
		return nil, err
	}
	credentials, err := w.credentials(ctx, w.disk.Attempt.UID, w.disk.Attempt.Spec)
	if err != nil {
		return nil, err
	}
	client := registry.New(info.Insecure)
	var wg sync.WaitGroup
	slots := make(chan struct{}, pullsAtOnce)
	for _, i := range absent {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			auth, _, err := registry.AuthFor(images[i].ref, credentials)
			if err == nil {
				images[i].remote, err = client.Image(ctx, images[i].ref, want, auth)
			}
			if err != nil {
				w.log.Info("the size of an image is not known before it is pulled", "image", images[i].ref, "error", err.Error())
				return
			}
			images[i].platforms = images[i].remote.Platforms
		})
	}
	wg.Wait()
	return images, ctx.Err()
}

// obstacles returns the first thing that stands in the way, nil if nothing does.
func (w *worker) obstacles(ctx context.Context, target *resolved, info compose.Info, images []surveyed) (*obstacle, error) {
	if o := wrongArchitecture(target, platformOf(info), images); o != nil {
		return o, nil
	}
	if o := w.ownDisk(); o != nil {
		return o, nil
	}
	if o, err := w.engineDisk(ctx, info, images); o != nil || err != nil {
		return o, err
	}
	return w.portsTaken(ctx, target, info)
}

func platformOf(info compose.Info) registry.Platform {
	system, architecture, _ := strings.Cut(info.Platform, "/")
	return registry.Platform{OS: system, Architecture: architecture}
}

// wrongArchitecture finds an image that is not made for the engine's processor. A service that names its platform has
// decided otherwise: the server may emulate it.
func wrongArchitecture(target *resolved, want registry.Platform, images []surveyed) *obstacle {
	for _, image := range images {
		if len(image.platforms) == 0 || slices.Contains(image.platforms, want) || target.namesPlatform(image.ref) {
			continue
		}
		var made []string
		for _, p := range image.platforms {
			made = append(made, p.String())
		}
		return &obstacle{reason: v1alpha1.ReasonWrongArchitecture, message: fmt.Sprintf("the image of %s is made for %s, and this server is %s: build it for %s too",
			target.servicesOf(image.ref), strings.Join(made, ", "), want, want)}
	}
	return nil
}

// namesPlatform says whether the compose file chooses a platform for the services of an image.
func (r *resolved) namesPlatform(image string) bool {
	for _, s := range r.project.Services {
		if s.Image == image && s.Platform != "" {
			return true
		}
	}
	return false
}

// ownDisk looks at the agent's own folder: a state that cannot be written stops everything.
func (w *worker) ownDisk() *obstacle {
	space, err := disk.Free(w.agent.options.DataDir)
	if err != nil {
		w.log.Info("free space for the agent's state cannot be seen", "error", err.Error())
		return nil
	}
	if space.Bytes >= ownNeed && space.Files != 0 {
		return nil
	}
	return &obstacle{reason: v1alpha1.ReasonDiskFull, passes: true, message: fmt.Sprintf("%s, where the agent keeps its state, has %s free: make room",
		w.agent.options.DataDir, megabytes(space.Bytes))}
}

// engineDisk compares what is to be fetched with the room where the engine keeps images.
func (w *worker) engineDisk(ctx context.Context, info compose.Info, images []surveyed) (*obstacle, error) {
	if !slices.ContainsFunc(images, func(s surveyed) bool { return s.remote != nil }) {
		return nil, nil
	}
	if !w.agent.engine.IsLocal() {
		return nil, nil
	}
	space, err := disk.Free(info.RootDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		w.log.Info("where the engine keeps images cannot be seen from here: free space is not checked", "folder", info.RootDir)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for free space: %w", err)
	}
	if roomFor(images, nil) <= space.Bytes {
		return nil, nil
	}
	layers, err := w.agent.engine.Layers(ctx) // asked only when it matters: one question for each image
	if err != nil {
		return nil, err
	}
	need := roomFor(images, layers)
	if need <= space.Bytes {
		return nil, nil
	}
	if removed, err := w.removeUnused(ctx); err != nil {
		w.log.Info("no room could be made", "error", err.Error())
	} else if removed > 0 {
		return &obstacle{reason: v1alpha1.ReasonDiskFull, passes: true, message: "room is being made for images"}, nil
	}
	return &obstacle{reason: v1alpha1.ReasonDiskFull, passes: true, message: fmt.Sprintf(
		"the images need about %s in %s, and %s are free: make room (docker system df tells what takes it), then authorise the release again",
		megabytes(need), info.RootDir, megabytes(space.Bytes))}, nil
}

// roomFor is how many bytes fetching the absent images takes; present names unpacked layers that the engine has.
func roomFor(images []surveyed, present map[string]bool) int64 {
	counted := map[string]bool{}
	var sum int64
	for _, image := range images {
		if image.remote == nil {
			continue
		}
		for i, layer := range image.remote.Layers {
			have := i < len(image.remote.DiffIDs) && present[image.remote.DiffIDs[i]]
			if have || counted[layer.Digest] || layer.Size < 0 {
				continue
			}
			counted[layer.Digest] = true
			sum += layer.Size
		}
	}
	if sum == 0 {
		return 0
	}
	return int64(float64(sum)*unpackedFactor) + keepFree
}

// portsTaken finds a port of the server that the release publishes and somebody else has.
func (w *worker) portsTaken(ctx context.Context, target *resolved, info compose.Info) (*obstacle, error) {
	wanted := wantedPorts(target)
	if len(wanted) == 0 {
		return nil, nil
	}
	published, err := w.agent.engine.Published(ctx)
	if err != nil {
		return nil, err
	}
	name, _ := os.Hostname()
	seen := w.agent.engine.IsLocal() && name == info.Name // else another network's ports would be looked at
	for _, port := range wanted {
		ours := false
		for _, p := range published {
			if !port.meets(p.Address, p.Port, p.Protocol) {
				continue
			}
			if ours = p.Project == target.project.Name; ours {
				break // it is replaced, or stays as it is
			}
			owner := "container " + p.Container
			if p.Project != "" {
				owner += " of the compose project " + p.Project
			}
			return &obstacle{reason: v1alpha1.ReasonPortTaken, passes: true,
				message: fmt.Sprintf("service %s publishes port %s, which %s has", port.service, port, owner)}, nil
		}
		if ours || !seen {
			continue
		}
		if taken, owner := port.holder(); taken {
			return &obstacle{reason: v1alpha1.ReasonPortTaken, passes: true,
				message: fmt.Sprintf("service %s publishes port %s, which %s has", port.service, port, owner)}, nil
		}
	}
	return nil, nil
}
