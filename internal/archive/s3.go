// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"gitlab.com/dynors/sirrat/internal/envelope"
)

// ErrNoFencing means that the server overwrites an object although it is told not to, so that two writers could fork a log.
var ErrNoFencing = errors.New("the S3 server does not honour If-None-Match")

// S3Options say where a bucket is and who asks.
type S3Options struct {
	// Endpoint is the server's address, e.g. https://s3.fr-par.scw.cloud.
	Endpoint string
	// Region may be empty: the server is asked.
	Region string
	Bucket string
	// Prefix is put before every key, e.g. sirrat/; empty for none.
	Prefix string
	// AccessKey and SecretKey need to list the bucket and to read and create objects; nothing is ever deleted, so a bucket
	// with object lock will do.
	AccessKey, SecretKey string
	// Transport is nil for the client's own.
	Transport http.RoundTripper
}

// S3 is a Store in a bucket, with the keys that Directory has as paths. Each Append is one object, created only if no
// other has its name, so that of two writers at one sequence the second fails.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string
}

// readAhead is how many objects of a log are fetched at once: reading a log costs one request per Append.
const readAhead = 16

// OpenS3 opens the store and makes sure that the bucket is there and that the server keeps two writers apart
// (ErrNoFencing). For that it leaves an object named fencing.
func OpenS3(ctx context.Context, o S3Options) (*S3, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("open S3 archive: the endpoint is not https://host[:port]")
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""),
		Secure: u.Scheme == "https", Region: o.Region, Transport: o.Transport,
	})
	if err != nil {
		return nil, fmt.Errorf("open S3 archive: %w", err)
	}
	s := &S3{client: client, bucket: o.Bucket, prefix: o.Prefix}
	if err := s.checkFencing(ctx); err != nil {
		return nil, fmt.Errorf("open S3 archive in bucket %s: %w", o.Bucket, err)
	}
	return s, nil
}

// checkFencing creates the same object until it is refused: at once on a bucket that was used before.
func (s *S3) checkFencing(ctx context.Context) error {
	for range 2 {
		err := s.create(ctx, "fencing", []byte("This object must not be replaced.\n"))
		if isExists(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ErrNoFencing
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, data []byte) (string, error) {
	if len(data) > MaxObject {
		return "", fmt.Errorf("store object: %w: %d bytes", ErrTooLarge, len(data))
	}
	hash := envelope.Hash(data)
	name, err := ObjectPath(hash)
	if err != nil {
		return "", err
	}
	if err := s.create(ctx, name, data); err != nil && !isExists(err) {
		return "", fmt.Errorf("store object %s: %w", hash, err)
	}
	return hash, nil
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, hash string) ([]byte, error) {
	name, err := ObjectPath(hash)
	if err != nil {
		return nil, err
	}
	data, err := s.read(ctx, name, MaxObject)
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", hash, err)
	}
	return data, checkObject(hash, data)
}

// Has implements Store.
func (s *S3) Has(ctx context.Context, hash string) (bool, error) {
	name, err := ObjectPath(hash)
	if err != nil {
		return false, err
	}
	_, err = s.client.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for object %s: %w", hash, err)
	}
	return true, nil
}

// Append implements Store.
func (s *S3) Append(ctx context.Context, log string, first int64, lines [][]byte) error {
	text, err := joinLines(log, first, lines)
	if err != nil {
		return err
	}
	name := logPrefix(log) + segmentName(first)
	err = s.create(ctx, name, text)
	if isExists(err) {
		// The client repeats requests whose answer was lost: it may have been our own that is there.
		there, readErr := s.read(ctx, name, segmentLimit)
		if readErr == nil && bytes.Equal(there, text) {
			return nil
		}
		return fmt.Errorf("append to log %s: %w: %d is written", log, ErrConflict, first)
	}
	if err != nil {
		return fmt.Errorf("append to log %s: %w", log, err)
	}
	return nil
}

// Read implements Store.
func (s *S3) Read(ctx context.Context, log string, from int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		firsts, err := s.segments(ctx, log)
		if err != nil {
			yield(Line{}, fmt.Errorf("read log %s: %w", log, err))
			return
		}
		from = max(from, 1)
		if len(firsts) > 0 && firsts[0] != 1 {
			yield(Line{}, fmt.Errorf("read log %s: %w: it begins at %d", log, ErrCorrupt, firsts[0]))
			return
		}
		start, exact := slices.BinarySearch(firsts, from)
		if !exact && start > 0 {
			start--
		}
		firsts = firsts[start:]
		var seq int64
		for i := 0; i < len(firsts); i += readAhead {
			group := firsts[i:min(i+readAhead, len(firsts))]
			texts, err := s.fetch(ctx, log, group)
			if err != nil {
				yield(Line{}, fmt.Errorf("read log %s: %w", log, err))
				return
			}
			for j, text := range texts {
				if seq != 0 && seq != group[j] {
					yield(Line{}, fmt.Errorf("read log %s: %w: after line %d comes segment %s", log, ErrCorrupt, seq-1, segmentName(group[j])))
					return
				}
				var more bool
				if seq, more = yieldLines(log, group[j], from, text, yield); !more {
					return
				}
			}
		}
	}
}

// yieldLines yields the lines of one object from sequence from on; it returns the sequence after its last.
func yieldLines(log string, seq, from int64, text []byte, yield func(Line, error) bool) (int64, bool) {
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole || len(line) > MaxLine {
			yield(Line{}, fmt.Errorf("read log %s: %w: line %d has no end or is too long", log, ErrCorrupt, seq))
			return seq, false
		}
		if seq >= from && !yield(Line{Seq: seq, Data: line}, nil) {
			return seq, false
		}
		text = rest
		seq++
	}
	return seq, true
}

// fetch reads some segments at once.
func (s *S3) fetch(ctx context.Context, log string, firsts []int64) ([][]byte, error) {
	texts := make([][]byte, len(firsts))
	group, ctx := errgroup.WithContext(ctx)
	for i, first := range firsts {
		group.Go(func() (err error) {
			texts[i], err = s.read(ctx, logPrefix(log)+segmentName(first), segmentLimit)
			return err
		})
	}
	return texts, group.Wait()
}

// segments are the first sequences of a log's objects, ascending.
func (s *S3) segments(ctx context.Context, log string) ([]int64, error) {
	if err := CheckLog(log); err != nil {
		return nil, err
	}
	var firsts []int64
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prefix := s.prefix + logPrefix(log)
	for object := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if first, ok := parseSegment(strings.TrimPrefix(object.Key, prefix)); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// Logs implements Store.
func (s *S3) Logs(ctx context.Context) ([]string, error) {
	var names []string
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prefix := s.prefix + "journal/"
	for object := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if object.Err != nil {
			return nil, fmt.Errorf("list logs: %w", object.Err)
		}
		name, folder := strings.CutSuffix(strings.TrimPrefix(object.Key, prefix), "/")
		if folder && CheckLog(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func logPrefix(log string) string { return "journal/" + log + "/" }

// create makes an object unless there is one of that name (isExists). An MD5 sum goes with it: buckets with object lock ask
// for one, and unlike newer checksums every server knows it.
func (s *S3) create(ctx context.Context, name string, data []byte) error {
	options := minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true, DisableMultipart: true}
	options.SetMatchETagExcept("*")
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(data), int64(len(data)), options)
	return err
}

func (s *S3) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	object, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = object.Close() }() // it was read, or failed to be
	data, err := io.ReadAll(io.LimitReader(object, limit+1))
	if isNotFound(err) {
		return nil, ErrNotFound
	}
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrCorrupt, name, limit)
	}
	return data, err
}

func isNotFound(err error) bool {
	return err != nil && minio.ToErrorResponse(err).StatusCode == http.StatusNotFound &&
		minio.ToErrorResponse(err).Code != "NoSuchBucket"
}

// isExists is the answer to create when there is one. 409, while another writer of that name is not done yet, is not: who
// wins is not known then.
func isExists(err error) bool {
	return err != nil && minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed
}
