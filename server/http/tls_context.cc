#include "server/http/tls_context.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/ssl/context.hpp>
#include <ctime>

namespace latentd {
namespace {

namespace ssl = boost::asio::ssl;

Status wrong_file(const char* field, const std::filesystem::path& path,
                  const boost::system::error_code& error) {
  return invalid_argument(field, path.string() + ": " + error.message());
}

Status demand_client_certificates(ssl::context& context, const std::filesystem::path& path) {
  boost::system::error_code error;
  context.load_verify_file(path.string(), error);
  if (error) return wrong_file("tls-client-ca", path, error);
  // Tells clients which of their certificates to choose.
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(path.c_str());
  if (names != nullptr) SSL_CTX_set_client_CA_list(context.native_handle(), names);
  context.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  if (error) return wrong_file("tls-client-ca", path, error);
  return ok_status();
}

// Sessions are resumed only where this is set, once clients are verified.
void name_sessions(SSL_CTX* context) {
  static constexpr unsigned char kName[] = "latentd";
  SSL_CTX_set_session_id_context(context, kName, sizeof(kName) - 1);
}

std::int64_t expiry_of(SSL_CTX* context) {
  const X509* certificate = SSL_CTX_get0_certificate(context);
  std::tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
    return 0;
  }
  return timegm(&end);
}

}  // namespace

Result<std::unique_ptr<TlsContext>> TlsContext::load(TlsFiles files) {
  std::unique_ptr<TlsContext> made(new TlsContext(std::move(files)));
  made->stamps_ = made->stamps();
  LATENTD_RETURN_IF_ERROR(made->read());
  return made;
}

TlsContext::Stamps TlsContext::stamps() const {
  return {FileStamp::of(files_.certificate), FileStamp::of(files_.key),
          FileStamp::of(files_.client_ca)};
}

TlsContext::Shared TlsContext::current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

std::int64_t TlsContext::expiry_unix() const {
  std::lock_guard lock(mutex_);
  return expiry_unix_;
}

Result<bool> TlsContext::reload() {
  const Stamps now = stamps();
  if (now == stamps_) return false;
  stamps_ = now;
  LATENTD_RETURN_IF_ERROR(read());
  return true;
}

Status TlsContext::read() {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const handle = context->native_handle();
  SSL_CTX_set_min_proto_version(handle, TLS1_2_VERSION);
  SSL_CTX_set_options(handle, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  name_sessions(handle);
  boost::system::error_code error;
  context->use_certificate_chain_file(files_.certificate.string(), error);
  if (error) return wrong_file("tls-cert", files_.certificate, error);
  context->use_private_key_file(files_.key.string(), ssl::context::pem, error);
  if (error) return wrong_file("tls-key", files_.key, error);
  if (!files_.client_ca.empty()) {
    LATENTD_RETURN_IF_ERROR(demand_client_certificates(*context, files_.client_ca));
  }
  std::lock_guard lock(mutex_);
  expiry_unix_ = expiry_of(handle);
  current_ = std::move(context);
  return ok_status();
}

}  // namespace latentd
