// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Names and groups that IssueKubeconfig accepts: 1 to 64 characters, as X.509
// bounds a common name. A user name goes into approval annotations, where ','
// and ':' separate, so it holds neither.
var (
	userPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)
	groupPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+:-]{0,63}$`)
)

// IssueKubeconfig returns a kubeconfig for user, with a new client certificate
// inside, signed by the CA of dataDir. The control plane need not run, and the
// directory is only read.
//
// An empty server means the address in admin.kubeconfig. ttl is above zero and
// at most MaxClientLifetime; there is no revocation before it ends, so RBAC
// bindings are what to remove when somebody leaves. User and groups that start
// with "system:" have a meaning to Kubernetes itself and are refused, as are
// AdminUser and what does not match userPattern; see IssueAdminKubeconfig.
func IssueKubeconfig(dataDirectory, user string, groups []string, server string, ttl time.Duration) ([]byte, error) {
	if !userPattern.MatchString(user) || user == AdminUser {
		return nil, fmt.Errorf("user name %q is not allowed: use 1 to 64 letters, digits, '.', '_', '@', '+' or '-', "+
			"starting with a letter or digit, and not %q", user, AdminUser)
	}
	for _, group := range groups {
		if !groupPattern.MatchString(group) || strings.HasPrefix(strings.ToLower(group), "system:") {
			return nil, fmt.Errorf("group %q is not allowed: use 1 to 64 letters, digits, '.', '_', '@', '+', ':' or '-', "+
				"not starting with \"system:\"", group)
		}
	}
	return issueKubeconfig(dataDir(dataDirectory), identity{user: user, groups: groups}, server, ttl)
}

// IssueAdminKubeconfig is IssueKubeconfig for a second administrator: any user
// name that IssueKubeconfig accepts, in the group system:masters, which no
// RBAC rule can limit.
func IssueAdminKubeconfig(dataDirectory, user, server string, ttl time.Duration) ([]byte, error) {
	if !userPattern.MatchString(user) {
		return nil, fmt.Errorf("user name %q is not allowed", user)
	}
	return issueKubeconfig(dataDir(dataDirectory), identity{user: user, groups: []string{mastersGroup}}, server, ttl)
}

func issueKubeconfig(d dataDir, id identity, server string, ttl time.Duration) ([]byte, error) {
	if ttl <= 0 || ttl > MaxClientLifetime {
		return nil, fmt.Errorf("a lifetime of %s is not allowed: above 0 and at most %s", ttl, MaxClientLifetime)
	}
	now := time.Now()
	ca, err := loadAuthority(d, servingCA, now)
	if err != nil {
		return nil, err
	}
	clientCA, err := loadAuthority(d, clientsCA, now)
	if err != nil {
		return nil, err
	}
	if server == "" {
		if server, err = recordedServer(d); err != nil {
			return nil, err
		}
	}
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("server %q is not an https:// address", server)
	}
	pair, err := clientCA.issue(id, ttl, now)
	if err != nil {
		return nil, err
	}
	return encodeKubeconfig(server, id.user, ca.pem, pair)
}

// recordedServer is the address that the last start wrote to admin.kubeconfig.
func recordedServer(d dataDir) (string, error) {
	config, err := clientcmd.LoadFromFile(d.adminKubeconfig())
	if err != nil {
		return "", fmt.Errorf("find the server's address: %w", err)
	}
	cluster, ok := config.Clusters[kubeconfigName]
	if !ok {
		return "", fmt.Errorf("find the server's address: %s names no cluster %q", d.adminKubeconfig(), kubeconfigName)
	}
	return cluster.Server, nil
}

// kubeconfigName is the name of cluster and context in every kubeconfig.
const kubeconfigName = "sirrat"

// encodeKubeconfig embeds pair, a PEM text with a certificate and its key.
func encodeKubeconfig(server, user string, caPEM, pair []byte) ([]byte, error) {
	if _, err := tls.X509KeyPair(pair, pair); err != nil {
		return nil, fmt.Errorf("read the certificate of %q: %w", user, err)
	}
	certPEM, keyPEM, ok := splitPair(pair)
	if !ok {
		return nil, errors.New("a client certificate without its key")
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[kubeconfigName] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: caPEM}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: certPEM, ClientKeyData: keyPEM}
	config.Contexts[kubeconfigName] = &clientcmdapi.Context{Cluster: kubeconfigName, AuthInfo: user}
	config.CurrentContext = kubeconfigName
	out, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode the kubeconfig of %q: %w", user, err)
	}
	return out, nil
}
