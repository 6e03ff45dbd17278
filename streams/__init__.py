"""The path of an event.

Producers write Avro to `session-events`. `fan-out` joins each event with the webhooks that want it and writes one
delivery each to `deliveries`. `deliver` sends a delivery as a signed POST and decides what follows: delivered, the next
retry tier, held, or a dead letter. `record` stores each outcome in SQL, counts each webhook's health and pauses it.
`meter` counts launches and raises `usage.threshold`. `publish` projects the webhooks of SQL onto the compacted topic
`subscriptions`, which `fan-out` and `deliver` read.

`streams.core` has pure values and rules, `streams.stages` the stages, `streams.adapters` all input and output.
`streams.features` has what people manage, a folder for each feature.
`streams.runtime` wires them and runs them as processes.
"""
