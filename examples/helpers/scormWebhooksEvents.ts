// The events that a receiver gets, as types. `make generated` writes this file.
// A webhook with `fields` gets only these of `data`: then every field may be absent.

export const EVENT_TYPES = [
  'session.launched',
  'session.completed',
  'session.scored',
  'session.ended',
  'session.reset',
  'package.updated',
  'usage.threshold',
  'webhook.failing',
  'webhook.paused',
  'webhook.recovered',
  'webhook.deadletters',
  'webhook.secret.ending',
  'webhook.certificate.ending',
] as const;

interface EventBase {
  id: string;
  createdAt: string;
  /** Only in test events. */
  test?: boolean;
}

/** An event of a type that is newer than this file. */
export interface UnknownEvent extends EventBase {
  type: string;
  data: Record<string, unknown>;
}

/**
 * A learner opened a SCORM session.
 */
export interface SessionLaunchedData {
  sessionId: string;
  packageId: string;
  dispatchId?: string;
  learnerId: string;
  sequence?: number;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `session.launched`. */
export interface SessionLaunched extends EventBase {
  type: 'session.launched';
  data: SessionLaunchedData;
}

/**
 * Completion became completed, or success became passed: each of the two once a session, both at the same time as
 * one event. A session that was completed before it was passed has two.
 */
export interface SessionCompletedData {
  sessionId: string;
  packageId: string;
  dispatchId?: string;
  learnerId: string;
  completionStatus: 'completed' | 'incomplete' | 'not attempted' | 'unknown';
  successStatus: 'passed' | 'failed' | 'unknown';
  scoreRaw?: number;
  scoreMin?: number;
  scoreMax?: number;
  scoreScaled?: number;
  totalTime: string;
  previousCompletionStatus?: 'completed' | 'incomplete' | 'not attempted' | 'unknown';
  previousSuccessStatus?: 'passed' | 'failed' | 'unknown';
  sequence?: number;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `session.completed`. */
export interface SessionCompleted extends EventBase {
  type: 'session.completed';
  data: SessionCompletedData;
}

/**
 * A score was recorded; it has a raw or a scaled value.
 */
export interface SessionScoredData {
  sessionId: string;
  packageId: string;
  dispatchId?: string;
  learnerId: string;
  scoreRaw?: number;
  scoreMin?: number;
  scoreMax?: number;
  scoreScaled?: number;
  sequence?: number;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `session.scored`. */
export interface SessionScored extends EventBase {
  type: 'session.scored';
  data: SessionScoredData;
}

/**
 * A session that a player commits to was closed, or its commit URL ended. reported says how much is known. Only
 * webhooks that name this type get it.
 */
export interface SessionEndedData {
  sessionId: string;
  packageId: string;
  dispatchId?: string;
  learnerId: string;
  reported: 'nothing' | 'partly' | 'completed';
  completionStatus: 'completed' | 'incomplete' | 'not attempted' | 'unknown';
  successStatus: 'passed' | 'failed' | 'unknown';
  scoreRaw?: number;
  scoreMin?: number;
  scoreMax?: number;
  scoreScaled?: number;
  totalTime?: string;
  lastCommitAt?: string;
  sequence?: number;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `session.ended`. */
export interface SessionEnded extends EventBase {
  type: 'session.ended';
  data: SessionEndedData;
}

/**
 * A course took back that it was completed or passed. Only webhooks that name this type get it.
 */
export interface SessionResetData {
  sessionId: string;
  packageId: string;
  dispatchId?: string;
  learnerId: string;
  completionStatus: 'completed' | 'incomplete' | 'not attempted' | 'unknown';
  successStatus: 'passed' | 'failed' | 'unknown';
  previousCompletionStatus?: 'completed' | 'incomplete' | 'not attempted' | 'unknown';
  previousSuccessStatus?: 'passed' | 'failed' | 'unknown';
  sequence?: number;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `session.reset`. */
export interface SessionReset extends EventBase {
  type: 'session.reset';
  data: SessionResetData;
}

/**
 * A new version of a package was uploaded.
 */
export interface PackageUpdatedData {
  packageId: string;
  version: string;
  title?: string;
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

/** An event of the type `package.updated`. */
export interface PackageUpdated extends EventBase {
  type: 'package.updated';
  data: PackageUpdatedData;
}

/**
 * The account's launches in a calendar month of UTC reached 80 or 100 percent of its plan limit.
 */
export interface UsageThresholdData {
  period: string;
  launches: number;
  limit: number;
  thresholdPercent: 80 | 100;
  [field: string]: unknown;
}

/** An event of the type `usage.threshold`. */
export interface UsageThreshold extends EventBase {
  type: 'usage.threshold';
  data: UsageThresholdData;
}

/**
 * Another webhook's requests have failed for five minutes.
 */
export interface WebhookFailingData {
  webhookId: string;
  url?: string;
  failures: number;
  since: string;
  lastStatus?: number;
  [field: string]: unknown;
}

/** An event of the type `webhook.failing`. */
export interface WebhookFailing extends EventBase {
  type: 'webhook.failing';
  data: WebhookFailingData;
}

/**
 * Another webhook was paused because its endpoint failed or responded with 410 (pausedHours 0), or has been
 * paused for a day (24).
 */
export interface WebhookPausedData {
  webhookId: string;
  url?: string;
  reason: 'failures' | 'gone';
  pausedHours: 0 | 24;
  failures?: number;
  pausedAt: string;
  failingSince?: string;
  lastStatus?: number;
  [field: string]: unknown;
}

/** An event of the type `webhook.paused`. */
export interface WebhookPaused extends EventBase {
  type: 'webhook.paused';
  data: WebhookPausedData;
}

/**
 * Another webhook delivers again, after it was failing or paused.
 */
export interface WebhookRecoveredData {
  webhookId: string;
  url?: string;
  since: string;
  [field: string]: unknown;
}

/** An event of the type `webhook.recovered`. */
export interface WebhookRecovered extends EventBase {
  type: 'webhook.recovered';
  data: WebhookRecoveredData;
}

/**
 * Another webhook has had dead letters for a day.
 */
export interface WebhookDeadlettersData {
  webhookId: string;
  url?: string;
  count: number;
  since: string;
  [field: string]: unknown;
}

/** An event of the type `webhook.deadletters`. */
export interface WebhookDeadletters extends EventBase {
  type: 'webhook.deadletters';
  data: WebhookDeadlettersData;
}

/**
 * The old signing secret of another webhook ends within six hours.
 */
export interface WebhookSecretEndingData {
  webhookId: string;
  url?: string;
  until: string;
  [field: string]: unknown;
}

/** An event of the type `webhook.secret.ending`. */
export interface WebhookSecretEnding extends EventBase {
  type: 'webhook.secret.ending';
  data: WebhookSecretEndingData;
}

/**
 * The certificate of another webhook's endpoint ends within 14 days.
 */
export interface WebhookCertificateEndingData {
  webhookId: string;
  url?: string;
  until: string;
  [field: string]: unknown;
}

/** An event of the type `webhook.certificate.ending`. */
export interface WebhookCertificateEnding extends EventBase {
  type: 'webhook.certificate.ending';
  data: WebhookCertificateEndingData;
}

export type KnownEvent =
  | SessionLaunched
  | SessionCompleted
  | SessionScored
  | SessionEnded
  | SessionReset
  | PackageUpdated
  | UsageThreshold
  | WebhookFailing
  | WebhookPaused
  | WebhookRecovered
  | WebhookDeadletters
  | WebhookSecretEnding
  | WebhookCertificateEnding;
