// The modules whose custom resource definitions the tests of the Helm chart read.
module scorm-webhooks/tests/real/kube

go 1.19

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.4.0
)
