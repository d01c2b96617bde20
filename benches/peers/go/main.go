// franz-go under the load of ../src/load.rs.
//
// Records are pooled, each with a promise of its own that is made once. Quirks: no setting for
// requests in flight with idempotence on (franz-go chooses 5 itself); the sticky partitioner
// moves on after 64 KiB by default.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	ring    = 1 << 20
	stride  = 256
	longest = 1_000_000
)

type entry struct{ key, value []byte }

// A pooled record and what settles it.
type pooled struct {
	record kgo.Record
	due    time.Duration
	done   func(*kgo.Record, error)
}

func main() {
	words := map[string]string{}
	for _, word := range os.Args[1:] {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	number := func(name string) int {
		n, err := strconv.Atoi(words[name])
		check(err)
		return n
	}
	codec := kgo.NoCompression()
	if words["codec"] == "lz4" {
		codec = kgo.Lz4Compression()
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(words["brokers"]),
		kgo.DefaultProduceTopic(words["topic"]),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxBufferedBytes(64<<20),
		kgo.MaxBufferedRecords(10_000_000),
		kgo.ProducerBatchMaxBytes(int32(number("batch"))),
		kgo.ProducerLinger(time.Duration(number("linger"))*time.Millisecond),
		kgo.ProducerBatchCompression(codec),
	}
	if path := words["certificate"]; path != "" {
		pem, err := os.ReadFile(path)
		check(err)
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(pem)
		options = append(options, kgo.DialTLSConfig(&tls.Config{RootCAs: trusted}))
	}
	transactionTime := time.Duration(number("transaction_ms")) * time.Millisecond
	transactionRecords := number("transaction_records")
	if transactionRecords > 0 {
		id := fmt.Sprintf("peers-go-%d", os.Getpid())
		options = append(options, kgo.TransactionalID(id))
	}
	client, err := kgo.NewClient(options...)
	check(err)

	keySize, valueSize, rate := number("key"), number("value"), number("rate")
	tasks := number("tasks")
	warm := time.Duration(number("warm_up")) * time.Millisecond
	end := warm + time.Duration(number("window"))*time.Millisecond

	var acked, failed atomic.Uint64
	// Promises are called one after the other: they count without atomic additions.
	var counted uint64
	var latencies []atomic.Uint32
	if rate > 0 || transactionRecords > 0 || tasks > 0 {
		latencies = make([]atomic.Uint32, longest)
	}
	began := time.Now()
	// Counts the latency of a record that was due then, or of a commit that was asked for.
	took := func(since time.Duration) {
		if since >= warm && since < end {
			us := (time.Since(began) - since).Microseconds()
			latencies[min(max(us, 0), longest-1)].Add(1)
		}
	}
	var pool sync.Pool
	pool.New = func() any {
		p := new(pooled)
		p.done = func(_ *kgo.Record, err error) {
			due := p.due
			p.record = kgo.Record{}
			pool.Put(p)
			if err != nil {
				failed.Add(1)
				return
			}
			if counted++; counted%64 == 0 {
				acked.Store(counted)
			}
			if rate > 0 {
				took(due)
			}
		}
		return p
	}

	entries := entriesOf(keySize, valueSize)
	at := 0
	ctx := context.Background()
	send := func(due time.Duration) {
		if at++; at == len(entries) {
			at = 0
		}
		p := pool.Get().(*pooled)
		p.due = due
		p.record.Key, p.record.Value = entries[at].key, entries[at].value
		client.Produce(ctx, &p.record, p.done)
	}

	mark := func(name string, now time.Duration) {
		var usage syscall.Rusage
		check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
		cpu := usage.Utime.Nano() + usage.Stime.Nano()
		fmt.Println(name, acked.Load(), now.Nanoseconds(), cpu)
	}
	told := 0
	goOn := func() bool {
		now := time.Since(began)
		if told == 0 && now >= warm {
			mark("warm", now)
			told++
		} else if told == 1 && now >= end {
			mark("done", now)
			told++
		}
		return told < 2
	}

	sent := 0
	if transactionRecords > 0 {
		for goOn() {
			check(client.BeginTransaction())
			due := time.Since(began) + transactionTime
			left := transactionRecords
			for left > 0 && time.Since(began) < due {
				n := min(left, stride)
				for range n {
					send(0)
				}
				left -= n
			}
			asked := time.Since(began)
			check(client.Flush(ctx))
			check(client.EndTransaction(ctx, kgo.TryCommit))
			took(asked)
			acked.Store(counted)
			sent += transactionRecords - left
		}
	} else if tasks > 0 {
		var over atomic.Bool
		var done sync.WaitGroup
		var all atomic.Uint64
		for task := range tasks {
			done.Go(func() {
				var record kgo.Record
				for n := task; !over.Load(); n++ {
					record = kgo.Record{Value: entries[n%len(entries)].value}
					due := time.Since(began)
					if client.ProduceSync(ctx, &record).FirstErr() != nil {
						failed.Add(1)
					} else {
						acked.Add(1)
						took(due)
					}
					all.Add(1)
				}
			})
		}
		for goOn() {
			time.Sleep(time.Millisecond)
		}
		over.Store(true)
		done.Wait()
		sent, counted = int(all.Load()), acked.Load()
	} else if rate == 0 {
		for goOn() {
			for range stride {
				send(0)
			}
			sent += stride
		}
	} else {
		first := time.Since(began)
		for burst := 0; goOn(); burst++ {
			due := first + time.Duration(burst)*time.Millisecond
			time.Sleep(due - time.Since(began))
			for range rate / 1000 {
				send(due)
				sent++
			}
		}
	}
	check(client.Flush(ctx))
	acked.Store(counted)
	fmt.Println("end", sent, acked.Load(), failed.Load())
	if latencies != nil {
		fmt.Println("latency", percentile(latencies, 0.50), percentile(latencies, 0.99))
	}
	fmt.Println("bye")
	_, _ = io.Copy(io.Discard, os.Stdin)
	client.Close()
}

// Random letters, cut into values side by side.
func entriesOf(keySize, valueSize int) []entry {
	random := rand.New(rand.NewSource(0))
	letters := make([]byte, ring)
	for i := range letters {
		letters[i] = byte('A' + random.Intn(26))
	}
	size := keySize + valueSize
	entries := make([]entry, ring/size)
	for i := range entries {
		cut := letters[i*size : (i+1)*size]
		entries[i].value = cut[keySize:]
		if keySize > 0 {
			entries[i].key = cut[:keySize]
		}
	}
	return entries
}

func percentile(latencies []atomic.Uint32, share float64) int {
	var sum, seen uint64
	for i := range latencies {
		sum += uint64(latencies[i].Load())
	}
	for i := range latencies {
		if seen += uint64(latencies[i].Load()); seen > uint64(float64(sum)*share) {
			return i
		}
	}
	return 0
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
