// A cluster of franz-go's kfake, and franz-go's consumer to read it.
//
// It prints the brokers' addresses, and then does what each line of its standard input says:
//
//	dump TOPIC    prints the topic's records, one a line, and a dot
//	shuffle       gives every partition another leader, and prints a dot
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const partitions = 12

func main() {
	asVersion := flag.String("as-version", "", "the Kafka it is as old as; its own by default")
	identity := flag.String("tls", "", "a file with a key and its certificate")
	logins := flag.Bool("logins", false, "alice logs in by PLAIN and SCRAM, carol by PLAIN with ACLs")
	topics := flag.String("topics", "", "the topics, between commas")
	flag.Parse()

	opts := []kfake.Opt{
		kfake.NumBrokers(3),
		kfake.SeedTopics(partitions, strings.Split(*topics, ",")...),
	}
	// The consumer is as new as it can be.
	reader := []kgo.Opt{}
	if *asVersion != "" {
		version := kversion.FromString(*asVersion)
		if version == nil {
			log.Fatalf("no version %q", *asVersion)
		}
		opts = append(opts, kfake.MaxVersions(version))
	}
	if *identity != "" {
		certificate, err := tls.LoadX509KeyPair(*identity, *identity)
		check(err)
		opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		reader = append(reader, kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, host)
		}))
	}
	if *logins {
		writes := func(operation kmsg.ACLOperation) kfake.ACL {
			return kfake.ACL{
				Resource:  kmsg.ACLResourceTypeTopic,
				Name:      "allowed",
				Pattern:   kmsg.ACLResourcePatternTypeLiteral,
				Operation: operation,
				Allow:     true,
			}
		}
		opts = append(opts,
			kfake.EnableSASL(),
			kfake.EnableACLs(),
			kfake.Superuser("PLAIN", "reader", "reader"),
			kfake.Superuser("PLAIN", "alice", "secret"),
			kfake.Superuser("SCRAM-SHA-256", "alice", "secret"),
			kfake.Superuser("SCRAM-SHA-512", "alice", "secret"),
			kfake.User("PLAIN", "carol", "secret",
				writes(kmsg.ACLOperationWrite), writes(kmsg.ACLOperationDescribe)),
		)
		login := plain.Auth{User: "reader", Pass: "reader"}
		reader = append(reader, kgo.SASL(login.AsMechanism()))
	}
	cluster, err := kfake.NewCluster(opts...)
	check(err)
	out := bufio.NewWriter(os.Stdout)
	answer := func(line string) {
		fmt.Fprintln(out, line)
		check(out.Flush())
	}
	answer(strings.Join(cluster.ListenAddrs(), ","))
	reader = append(reader, kgo.SeedBrokers(cluster.ListenAddrs()...))

	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch words := strings.Fields(commands.Text()); words[0] {
		case "dump":
			check(dump(cluster, reader, words[1], out))
		case "shuffle":
			cluster.ShufflePartitionLeaders()
		default:
			log.Fatalf("no command %q", words[0])
		}
		answer(".")
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Partition, offset, timestamp, its type, key, value, headers; bytes in hex, - for null.
func dump(cluster *kfake.Cluster, reader []kgo.Opt, topic string, out *bufio.Writer) error {
	due := int64(0)
	for _, partition := range cluster.PartitionInfos(topic) {
		due += partition.HighWatermark - partition.LogStartOffset
	}
	client, err := kgo.NewClient(append(reader,
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for due > 0 {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			return failed.Err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			due--
			kind := "CreateTime"
			if record.Attrs.TimestampType() == 1 {
				kind = "LogAppendTime"
			}
			fmt.Fprintf(out, "%d\t%d\t%d\t%s\t%s\t%s\t", record.Partition, record.Offset,
				record.Timestamp.UnixMilli(), kind, text(record.Key), text(record.Value))
			for _, header := range record.Headers {
				fmt.Fprintf(out, "%s:%s,", text([]byte(header.Key)), text(header.Value))
			}
			fmt.Fprintln(out)
		})
	}
	if due < 0 {
		return errors.New("more records than the log has")
	}
	return nil
}

func text(bytes []byte) string {
	if bytes == nil {
		return "-"
	}
	return hex.EncodeToString(bytes)
}
