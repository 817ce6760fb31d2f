# shellcheck shell=bash
# Certificates and kubeconfigs of the test bed. P-256 keys: an RSA key takes longer to make than etcd to start.

ensure_certificates() {
  local recipe
  mkdir -p "$PKI"
  chmod 700 "$PKI"
  # Written last, so that an interrupted run makes them again; and holds this recipe's sum, so that a changed one does.
  recipe=$(sha256sum <"${BASH_SOURCE[0]}")
  if [[ $(head -n 1 "$PKI/complete" 2>/dev/null) == "$recipe" ]] && openssl x509 -checkend 172800 -noout -in "$PKI/apiserver.crt" >/dev/null 2>&1; then
    STAGE_NOTE="kept"
    return
  fi
  rm -f "$PKI"/*
  make_authority ca wva-testbed-ca
  # A second authority, because whoever holds a certificate of this one may speak for any user.
  make_authority front-proxy-ca wva-testbed-front-proxy-ca

  issue ca apiserver /CN=kube-apiserver serverAuth \
    DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.0.0.1
  issue ca adapter /CN=wva.wva-system.svc serverAuth \
    DNS:wva.wva-system.svc,DNS:wva.wva-system.svc.cluster.local,DNS:wva,DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,IP:127.0.0.3,IP:127.0.0.4,IP:127.0.0.5
  issue ca admin /O=system:masters/CN=wva-testbed-admin clientAuth
  issue ca kube-controller-manager /CN=system:kube-controller-manager clientAuth
  issue ca pod-discovery /CN=wva-testbed-pod-discovery clientAuth
  issue front-proxy-ca front-proxy-client /CN=front-proxy-client clientAuth
  new_key service-account
  openssl pkey -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub"
  { printf '%s\n' "$recipe" && openssl x509 -noout -fingerprint -in "$PKI/ca.crt"; } >"$PKI/complete"
  STAGE_NOTE="issued"
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$PKI/$1.key" 2>/dev/null; }

# make_authority NAME COMMON_NAME
make_authority() {
  new_key "$1"
  openssl req -x509 -new -sha256 -days 3650 -key "$PKI/$1.key" -subj "/CN=$2" -out "$PKI/$1.crt" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>"$PKI/openssl.log" || openssl_failed
}

# issue AUTHORITY NAME SUBJECT USAGE [ALTERNATIVE_NAMES]
issue() {
  local authority=$1 name=$2 subject=$3 usage=$4 names=${5:-}
  new_key "$name"
  {
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n' "$usage"
    if [[ -n $names ]]; then printf 'subjectAltName=%s\n' "$names"; fi
  } >"$PKI/$name.ext"
  openssl req -new -sha256 -key "$PKI/$name.key" -subj "$subject" 2>"$PKI/openssl.log" |
    openssl x509 -req -sha256 -days 365 -CA "$PKI/$authority.crt" -CAkey "$PKI/$authority.key" \
      -set_serial "0x$(openssl rand -hex 16)" -extfile "$PKI/$name.ext" -out "$PKI/$name.crt" 2>>"$PKI/openssl.log" || openssl_failed
  rm -f "$PKI/$name.ext"
}

openssl_failed() {
  tail_of "$PKI/openssl.log"
  die "openssl could not issue a certificate into $PKI" "remove that folder and run this again"
}

# write_kubeconfig FILE USER_YAML: the certificates go inside, so that the file can be copied.
write_kubeconfig() {
  local file=$1 user=$2
  mkdir -p "$(dirname "$file")"
  (
    umask 077
    cat >"$file.new" <<YAML
apiVersion: v1
kind: Config
current-context: wva-testbed
contexts:
- name: wva-testbed
  context: {cluster: wva-testbed, user: user}
clusters:
- name: wva-testbed
  cluster:
    server: $(apiserver_url)
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: user
  user:
    $user
YAML
  )
  mv -f "$file.new" "$file"
}

# write_client_kubeconfig NAME: for the holder of a client certificate.
write_client_kubeconfig() {
  write_kubeconfig "$STATE/kubeconfig/$1" \
    "{client-certificate-data: $(base64 -w0 "$PKI/$1.crt"), client-key-data: $(base64 -w0 "$PKI/$1.key")}"
}
