// SPDX-License-Identifier: Apache-2.0

// Package hooks reads the webhooks of GitLab, Harbor and SonarQube: who sent one, and what it says.
//
// # What holds
//
//   - Secrets are compared in constant time, and a signature covers the bytes that are read, before any of them is.
//   - A body is one JSON object in UTF-8 without a member given twice, at most maxDepth deep and maxTokens long. Members that are
//     not known are passed over, since the products add some; those that are read must be what they are documented to be.
//   - A word for a state that is not known is never a pass.
//   - What is returned holds nothing of a body but what this package names: no variables of a pipeline, no addresses of people.
//   - Times and numbers by which deliveries are ordered are those of the source: in which order they arrive does not matter.
//
// It is pure: no clock, no client. It may import api/v1alpha1 and the JSON library.
//
// The formats are those of GitLab's doc/user/project/integrations/webhooks.md and webhook_events.md (GitLab 18) and
// lib/gitlab/data_builder/pipeline.rb, the Standard Webhooks specification, Harbor's docs/working-with-projects/
// project-configuration/configure-webhooks.md (Harbor 2.12) and src/pkg/notifier/formats, and SonarQube Server's page «Webhooks»
// (2026.3) and WebhookPayloadFactoryImpl.java.
package hooks
