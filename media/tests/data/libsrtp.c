/* What libsrtp2 makes of packets: `oracle seal|open SUITE KEY` reads lines "rtp HEX" or "rtcp HEX" and
 * answers each with the packet it became, or with "error NUMBER". */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <string.h>

static size_t unhex(const char *text, unsigned char *out, size_t room) {
    size_t n = 0;
    unsigned byte;
    while (n < room && sscanf(text + 2 * n, "%2x", &byte) == 1) out[n++] = (unsigned char)byte;
    return n;
}

static void suite(const char *name, srtp_policy_t *policy) {
    struct { const char *name; void (*rtp)(srtp_crypto_policy_t *); void (*rtcp)(srtp_crypto_policy_t *); } known[] = {
        {"AES_CM_128_HMAC_SHA1_80", srtp_crypto_policy_set_rtp_default, srtp_crypto_policy_set_rtcp_default},
        {"AES_CM_128_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32, srtp_crypto_policy_set_rtcp_default},
        {"AES_256_CM_HMAC_SHA1_80", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80, srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80},
        {"AES_256_CM_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32, srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80},
        {"AEAD_AES_128_GCM", srtp_crypto_policy_set_aes_gcm_128_16_auth, srtp_crypto_policy_set_aes_gcm_128_16_auth},
        {"AEAD_AES_256_GCM", srtp_crypto_policy_set_aes_gcm_256_16_auth, srtp_crypto_policy_set_aes_gcm_256_16_auth},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            known[i].rtp(&policy->rtp);
            known[i].rtcp(&policy->rtcp);
        }
}

int main(int argc, char **argv) {
    static char line[16384];
    unsigned char key[64] = {0}, packet[4096];
    srtp_policy_t policy;
    srtp_t session;
    if (argc != 4) return 2;
    memset(&policy, 0, sizeof policy);
    suite(argv[2], &policy);
    unhex(argv[3], key, sizeof key);
    int seals = !strcmp(argv[1], "seal");
    policy.ssrc.type = seals ? ssrc_any_outbound : ssrc_any_inbound;
    policy.key = key;
    policy.window_size = 128;
    policy.allow_repeat_tx = 1;
    if (srtp_init() || srtp_create(&session, &policy)) return 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        char *hex = strchr(line, ' ');
        if (!hex) return 4;
        int is_rtcp = !strncmp(line, "rtcp", 4), len = (int)unhex(hex + 1, packet, sizeof packet - 64);
        int failed = seals ? (is_rtcp ? srtp_protect_rtcp(session, packet, &len) : srtp_protect(session, packet, &len))
                           : (is_rtcp ? srtp_unprotect_rtcp(session, packet, &len) : srtp_unprotect(session, packet, &len));
        if (failed) printf("error %d\n", failed);
        else {
            for (int i = 0; i < len; i++) printf("%02x", packet[i]);
            printf("\n");
        }
    }
    return 0;
}
