// SPDX-License-Identifier: Apache-2.0

package pdf

import (
	"encoding/json"
	"fmt"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// Of renders a PV from the object alone: with the decision once there is one.
func Of(p *v1alpha1.PV) ([]byte, error) {
	var d pv.Document
	if err := json.Unmarshal([]byte(p.Spec.Document), &d); err != nil {
		return nil, fmt.Errorf("read the document of PV %s: %w", p.Name, err)
	}
	st := p.Status
	if st.Decision == "" || st.SignedAt == nil {
		return Render(d, p.Spec.DocumentHash)
	}
	signed := Signed{
		Decision: st.Decision, Reason: st.Reason, Reservations: st.Reservations, SignedBy: st.SignedBy, SignedAt: st.SignedAt.Time,
		Method: st.Method, KeyID: st.KeyID, Email: st.Email, SignatureHash: st.SignatureHash, PDFHash: p.Spec.PDFHash,
	}
	return RenderSigned(d, p.Spec.DocumentHash, signed)
}
