// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"encoding/pem"
	"net/http/httptest"
)

func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
