// SPDX-License-Identifier: Apache-2.0

package signing

// Texts is for the test that holds them against their use.
var Texts = texts
