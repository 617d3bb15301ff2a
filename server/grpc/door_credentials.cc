#include "server/grpc/door_credentials.h"

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <string_view>

namespace latentd {
namespace {

constexpr unsigned int kRefreshSeconds = 1;

// Asks for the key when a call's metadata is there and its message is not: what has no key is never
// decoded. gRPC takes such a hook for encrypted doors alone.
class KeyProcessor final : public grpc::AuthMetadataProcessor {
 public:
  explicit KeyProcessor(Frontend& frontend) : frontend_(frontend) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* /*context*/,
                       OutputMetadata* /*consumed*/, OutputMetadata* /*response*/) override {
    if (value_of(metadata, ":path").starts_with("/grpc.health.v1.Health/")) return {};
    const auto caller = frontend_.keys().identify(value_of(metadata, "authorization"));
    if (caller.ok()) return {};
    frontend_.metrics().count_auth_failure("grpc");
    return {grpc::StatusCode::UNAUTHENTICATED, caller.status().message()};
  }

 private:
  static std::string_view value_of(const InputMetadata& metadata, const char* key) {
    const auto found = metadata.find(key);
    if (found == metadata.end()) return {};
    return {found->second.data(), found->second.size()};
  }

  Frontend& frontend_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> door_credentials(Frontend& frontend,
                                                          const TlsFiles& files) {
  if (!files.enabled()) return grpc::InsecureServerCredentials();
  namespace tls = grpc::experimental;
  tls::TlsServerCredentialsOptions options(std::make_shared<tls::FileWatcherCertificateProvider>(
      files.key.string(), files.certificate.string(), files.client_ca.string(), kRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  auto credentials = tls::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(std::make_shared<KeyProcessor>(frontend));
  return credentials;
}

}  // namespace latentd
