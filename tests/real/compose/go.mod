// The JSON schema of compose files, for tests/deploy. Nothing is compiled.
module compose

go 1.21

require github.com/compose-spec/compose-go/v2 v2.9.0
