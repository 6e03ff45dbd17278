// Publishes one event, as schemas/README.md says: go run . SERVERS SCHEMA [TOPIC]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// security is that of the server's variables: a password by SCRAM over TLS, and the authority of a private certificate.
func security() (options []kgo.Opt) {
	user, password := os.Getenv("KAFKA_CONFIG_SASL_USERNAME"), os.Getenv("KAFKA_CONFIG_SASL_PASSWORD")
	if user == "" {
		return nil
	}
	config := &tls.Config{}
	if file := os.Getenv("KAFKA_CONFIG_SSL_CA_LOCATION"); file != "" {
		authority, err := os.ReadFile(file)
		check(err, "the authority's certificate cannot be read")
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(authority)
	}
	login := scram.Auth{User: user, Pass: password}
	return []kgo.Opt{kgo.DialTLSConfig(config), kgo.SASL(login.AsSha512Mechanism())}
}

func main() {
	topic := append(os.Args, "session-events")[3]
	text, err := os.ReadFile(os.Args[2])
	check(err, "the schema cannot be read")
	schema, err := avro.Parse(string(text))
	check(err, "the schema is not valid")
	data := map[string]any{"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"}
	event := map[string]any{
		"id":         "evt_1", // your own: publish an event again with the id that it had
		"type":       "session.launched",
		"accountId":  "acc_1",
		"occurredAt": time.Date(2026, 4, 10, 14, 32, 0, 0, time.UTC),
		"data":       map[string]any{"scormwebhooks.v1.SessionLaunched": data},
	}
	// Single-object encoding: C3 01, the schema's fingerprint, the body.
	value, err := schema.AppendSingleObject(nil, event)
	check(err, "the event does not fit the schema")
	key := []byte(data["sessionId"].(string)) // without a session: the package id, else the account id

	timeout, err := time.ParseDuration(os.Getenv("TIMEOUT_MS") + "ms")
	if err != nil {
		timeout = 30 * time.Second
	}
	client, err := kgo.NewClient(append(security(), // idempotent by default
		kgo.SeedBrokers(strings.Split(os.Args[1], ",")...),
		kgo.MaxVersions(kversion.V2_3_0()), // the embedded broker of `up` cannot answer a newer first request
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // murmur2
		kgo.RecordDeliveryTimeout(timeout),
	)...)
	check(err, "Kafka did not take the event")
	defer client.Close()
	waiting, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	place, err := client.ProduceSync(waiting, &kgo.Record{Topic: topic, Key: key, Value: value}).First()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrRecordTimeout) {
		asking, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if cause := client.Ping(asking); cause != nil {
			err = cause // a timeout does not say why: a wrong password, no broker at this address
		}
	}
	check(err, "Kafka did not take the event")
	fmt.Println(place.Topic, place.Partition, place.Offset)
}
