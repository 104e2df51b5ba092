/* The pulls under way, and the one thread that speaks with crisp-pull: it starts that process when the first pull comes, hands pulls and
 * cancellations over, commits what arrives, and ends the process when none was asked for in IDLE_NS.
 *
 *   queued ──▶ sent ──▶ over
 *      └────────────────▲   (nobody waits any more; crisp-pull died; crispd ends)
 *
 * Callers with the same reference, credentials and rule of trust share a pull. Each waits on an eventfd of its own, under its own deadline. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "imageservice/digest.h"
#include "imageservice/images_inside.h"
#include "imageservice/protocol.h"
#include "imageservice/reference.h"

#define IDLE_NS (5 * NS_PER_SECOND)

enum {
    END_MS = 3000, /* that crisp-pull has to end by itself after its socket was closed */
    PARTIAL_SECONDS = 3600,
    SEND_MS = 2000, /* a crisp-pull that reads nothing for so long hangs, and is killed */
};

enum state { QUEUED, SENT };

struct waiter {
    int event;
    bool done;
    char *id;            /* of the image; NULL: failed with err */
    struct strv results; /* of an import: the images' ids; of an export: notes */
    struct error err;
    struct waiter *next;
};

struct pull {
    uint32_t serial;
    enum state state;
    bool cancelled; /* nobody waits; crisp-pull is told, and its answer dropped */
    bool cancel_sent;
    bool again;            /* its first crisp-pull died, or it can't be begun again */
    char *key, *reference; /* of an import, no reference: NULL */
    int archive, request;  /* of an import or export: fds; -1 */
    struct strv results;   /* for the waiter */
    struct message *start; /* PULL_START with the credentials; wiped at the pull's end */
    struct waiter *waiters;
    struct pull *next;
};

struct pulls {
    struct images *images;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    struct pull *all;
    uint32_t serial;
    bool closing;
    char session_name[24]; /* of the crisp-pull that runs, or ran last */
    unsigned callers;      /* in pulls_pull: pulls_stop waits for them, by `left` */
    pthread_cond_t left;
    /* The thread's own: */
    int wake;                   /* eventfd */
    int socket, pidfd, session; /* of the crisp-pull that runs; -1: none */
    int64_t idle_since_ns;
    struct message *message;
};

/* ---- For callers ---- */

static void
wake_thread(struct pulls *pulls)
{
    (void)eventfd_write(pulls->wake, 1);
}

static void
put_secret(struct message *m, enum pull_field field, const char *secret)
{
    if (!str_empty(secret))
        message_put_string(m, (uint16_t)field, secret);
}

/* What the reference names here already, in the digests of its own repository. */
static void
put_known(struct message *m, const char *reference, const struct image_record *known)
{
    cleanup_reference struct reference parsed = {0};
    if (!known || reference_parse(reference, &parsed, NULL) < 0)
        return;
    cleanup_free char *repository = reference_name(&parsed), *prefix = str_printf("%s@", repository);
    for (size_t i = 0; i < known->image.repo_digests.count; i++)
        if (str_starts(known->image.repo_digests.items[i], prefix))
            message_put_string(m, PULL_REPO_DIGEST, known->image.repo_digests.items[i] + strlen(prefix));
    message_put_string(m, PULL_MANIFEST_DIGEST, known->manifest_digest);
}

static struct message *
start_message(uint32_t serial, const char *reference, const struct image_auth *auth, const struct trusted *rule, const struct image_record *known)
{
    struct message *m = mem_alloc(sizeof *m);
    message_begin(m, PULL_START, serial);
    message_put_string(m, PULL_REFERENCE, reference);
    put_known(m, reference, known);
    if (rule && rule->policy == TRUST_SIGNED)
        message_put_string(m, PULL_RULE, rule->words);
    for (size_t i = 0; rule && i < rule->keys.count; i++)
        message_put_string(m, PULL_KEY, rule->keys.items[i]);
    if (auth) {
        put_secret(m, PULL_USERNAME, auth->username);
        put_secret(m, PULL_PASSWORD, auth->password);
        put_secret(m, PULL_AUTH, auth->auth);
        put_secret(m, PULL_SERVER_ADDRESS, auth->server_address);
        put_secret(m, PULL_IDENTITY_TOKEN, auth->identity_token);
        put_secret(m, PULL_REGISTRY_TOKEN, auth->registry_token);
    }
    return m;
}

static void
wipe_message(struct message *m)
{
    if (m)
        OPENSSL_cleanse(m->data, sizeof m->data);
    free(m);
}

/* The message hashed: equal for equal references, credentials and rules of trust, and no secret itself. */
static char *
key_of(const char *reference, const struct image_auth *auth, const struct trusted *rule)
{
    char digest[DIGEST_SIZE];
    struct message *m = start_message(0, reference, auth, rule, NULL);
    digest_of(NULL, m->data, m->length <= MESSAGE_MAX ? m->length : 0, digest);
    wipe_message(m);
    return str_dup(digest);
}

/* With the lock held. */
static struct pull *
add(struct pulls *pulls)
{
    struct pull *pull = mem_zalloc(1, sizeof *pull);
    pull->serial = ++pulls->serial;
    pull->archive = pull->request = -1;
    pull->next = pulls->all;
    pulls->all = pull;
    return pull;
}

/* What is asked for: a pull, which others may share, or work on an archive. */
struct wish {
    const char *reference;
    const struct image_auth *auth;
    const struct trusted *rule; /* NULL: accepted unseen */
    bool explain;
    struct archive_work *work; /* NULL: a pull; its fds are taken */
    const struct cancel *cancel;
    const char *stage;
};

/* With the lock held. A pull that is to be explained is nobody else's. */
static struct pull *
find_or_add(struct pulls *pulls, const struct wish *wish, const struct image_record *known)
{
    cleanup_free char *key = key_of(wish->reference, wish->auth, wish->rule);
    struct pull *pull = pulls->all;
    while (pull && (pull->cancelled || wish->explain || !str_eq(pull->key, key)))
        pull = pull->next;
    if (pull)
        return pull;
    pull = add(pulls);
    pull->start = start_message(pull->serial, wish->reference, wish->auth, wish->rule, known);
    pull->key = wish->explain ? NULL : steal(key);
    pull->reference = str_dup(wish->reference);
    if (wish->explain)
        message_put_u64(pull->start, PULL_EXPLAIN, 1);
    return pull;
}

/* With the lock held. Only a file can be read twice. */
static struct pull *
add_work(struct pulls *pulls, struct archive_work *work)
{
    struct stat st;
    struct pull *pull = add(pulls);
    struct message *start = pull->start = mem_alloc(sizeof *start);
    pull->again = work->request >= 0 || fstat(work->archive, &st) < 0 || !S_ISREG(st.st_mode);
    message_begin(start, work->request >= 0 ? PULL_EXPORT : PULL_IMPORT, pull->serial);
    message_put_string(start, PULL_REFERENCE, work->name);
    message_put_u64(start, PULL_DIGESTS, work->digests);
    pull->archive = steal(work->archive);
    message_put_fd(start, pull->archive);
    pull->request = steal(work->request);
    if (pull->request >= 0)
        message_put_fd(start, pull->request);
    return pull;
}

static int
join(struct pulls *pulls, const struct wish *wish, struct waiter *waiter, struct pull **out, struct error *err)
{
    cleanup(index_unrefp) struct index *index = images_index(pulls->images);
    (void)pthread_mutex_lock(&pulls->lock);
    bool closing = pulls->closing;
    if (!closing) {
        pulls->callers++;
        *out = wish->work ? add_work(pulls, wish->work) : find_or_add(pulls, wish, index_find_name(index, wish->reference));
        waiter->next = (*out)->waiters;
        (*out)->waiters = waiter;
    }
    (void)pthread_mutex_unlock(&pulls->lock);
    wake_thread(pulls);
    return closing ? error_set(err, ERR_CANCELLED, "crispd is ending") : 0;
}

/* Stop waiting, unless the end came first. With its last waiter a pull is cancelled. */
static void
leave(struct pulls *pulls, struct pull *pull, struct waiter *waiter)
{
    (void)pthread_mutex_lock(&pulls->lock);
    if (!waiter->done) {
        struct waiter **link = &pull->waiters;
        while (*link != waiter)
            link = &(*link)->next;
        *link = waiter->next;
        pull->cancelled = !pull->waiters;
    }
    wake_thread(pulls);
    pulls->callers--;
    (void)pthread_cond_signal(&pulls->left);
    (void)pthread_mutex_unlock(&pulls->lock);
}

static char *
wait_for(struct pulls *pulls, const struct wish *wish, struct strv *results, struct error *err)
{
    struct pull *pull = NULL;
    struct waiter waiter = {.event = -1};
    cleanup_close int event = eventfd(0, EFD_CLOEXEC);
    if (event < 0) {
        (void)error_errno(err, errno, "eventfd");
        return NULL;
    }
    waiter.event = event;
    TRY_OR_NULL(join(pulls, wish, &waiter, &pull, err));
    struct error patience;
    int waited = cancel_wait(wish->cancel, event, INT64_MAX, wish->stage, &patience);
    leave(pulls, pull, &waiter);
    *results = waiter.results;
    if (waiter.done && waiter.id)
        return waiter.id;
    if (err)
        *err = waiter.done || waited > 0 ? waiter.err : patience;
    return NULL;
}

char *
pulls_pull(struct pulls *pulls, const char *reference, const struct image_auth *auth, const struct trusted *rule, const struct cancel *cancel,
           struct strv *account, struct error *err)
{
    cleanup_strv struct strv none = {0};
    struct wish wish = {
        .reference = reference, .auth = auth, .rule = rule, .explain = account != NULL, .cancel = cancel, .stage = "pulling the image"};
    return wait_for(pulls, &wish, account ? account : &none, err);
}

int
pulls_work(struct pulls *pulls, const struct archive_work *work, const struct cancel *cancel, struct strv *results, struct error *err)
{
    cleanup_close int archive = fcntl(work->archive, F_DUPFD_CLOEXEC, 0);
    cleanup_close int request = work->request >= 0 ? fcntl(work->request, F_DUPFD_CLOEXEC, 0) : -1;
    if (archive < 0 || (work->request >= 0 && request < 0))
        return error_errno(err, errno, "hold the archive");
    struct archive_work own = *work;
    own.archive = archive;
    own.request = request;
    struct wish wish = {.work = &own, .cancel = cancel, .stage = request >= 0 ? "writing the archive" : "reading the archive"};
    cleanup_free char *last = wait_for(pulls, &wish, results, err);
    archive = own.archive;
    request = own.request;
    return last ? 0 : -1;
}

/* ---- The thread ---- */

static void
pull_free(struct pull *pull)
{
    wipe_message(pull->start);
    if (pull->archive >= 0)
        (void)close(pull->archive);
    if (pull->request >= 0)
        (void)close(pull->request);
    strv_free(&pull->results);
    free(pull->key);
    free(pull->reference);
    free(pull);
}

/* With the lock held: take the pull off the list and tell its waiters, who may be gone the moment they are told. */
static void
tell_waiters(struct pulls *pulls, struct pull *pull, const char *id, const struct error *why)
{
    struct pull **link = &pulls->all;
    while (*link != pull)
        link = &(*link)->next;
    *link = pull->next;
    while (pull->waiters) {
        struct waiter *waiter = pull->waiters;
        pull->waiters = waiter->next;
        waiter->done = true;
        waiter->id = str_dup(id);
        strv_copy(&waiter->results, &pull->results);
        if (!id)
            waiter->err = *why;
        (void)eventfd_write(waiter->event, 1);
    }
}

static void
holder_of(uint32_t serial, char out[32])
{
    (void)snprintf(out, 32, "pull/%u", serial);
}

static void
end_pull(struct pulls *pulls, struct pull *pull, const char *id, const struct error *why)
{
    char holder[32];
    holder_of(pull->serial, holder);
    images_unhold(pulls->images, holder);
    (void)pthread_mutex_lock(&pulls->lock);
    tell_waiters(pulls, pull, id, why);
    pulls->idle_since_ns = clock_monotonic_ns();
    (void)pthread_mutex_unlock(&pulls->lock);
    pull_free(pull);
}

/* The next pull in this state, or none; only this thread takes pulls off the list. */
static struct pull *
next_in(struct pulls *pulls, enum state state, bool cancelled)
{
    (void)pthread_mutex_lock(&pulls->lock);
    struct pull *pull = pulls->all;
    while (pull && !(pull->state == state && pull->cancelled == cancelled && !pull->cancel_sent))
        pull = pull->next;
    (void)pthread_mutex_unlock(&pulls->lock);
    return pull;
}

static struct pull *
find_serial(struct pulls *pulls, uint32_t serial)
{
    (void)pthread_mutex_lock(&pulls->lock);
    struct pull *pull = pulls->all;
    while (pull && pull->serial != serial)
        pull = pull->next;
    (void)pthread_mutex_unlock(&pulls->lock);
    return pull;
}

/* ---- crisp-pull, the process ---- */

static int
make_session(struct pulls *pulls, struct error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return error_errno(err, errno, "random number");
    (void)pthread_mutex_lock(&pulls->lock);
    (void)snprintf(pulls->session_name, sizeof pulls->session_name, "%016llx", (unsigned long long)random);
    (void)pthread_mutex_unlock(&pulls->lock);
    cleanup_free char *path = str_printf("incoming/%s", pulls->session_name);
    if (mkdirat(pulls->images->images_dir, path, 0700) < 0)
        return error_errno(err, errno, "make images/%s", path);
    pulls->session = TRY(file_open(pulls->images->images_dir, path, O_RDONLY | O_DIRECTORY, 0, err));
    return 0;
}

/* What a crisp-pull left: of an earlier crispd, or of one that died. */
static void
clear_incoming(struct pulls *pulls)
{
    cleanup_free char *path = str_printf("%s/images/incoming", pulls->images->root);
    cleanup_closedir DIR *dir = opendir(path);
    struct error err;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") && file_remove_tree(dirfd(dir), entry->d_name, &err) < 0)
            log_warn("half a download can't be deleted", "path", path, "error", err.message);
}

/* Half blobs that no pull went on with for long. */
static void
clear_partial(struct pulls *pulls)
{
    struct stat st;
    cleanup_free char *path = str_printf("%s/images/partial", pulls->images->root);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > PARTIAL_SECONDS)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
}

static void
make_arguments(const struct pulls *pulls, struct strv *argv)
{
    const struct images *images = pulls->images;
    strv_add(argv, images->pull_program);
    strv_addf(argv, "--incoming=%s/images/incoming/%s", images->root, pulls->session_name);
    strv_addf(argv, "--partial=%s/images/partial", images->root);
    strv_addf(argv, "--layers=%s", images->layers_path);
    strv_addf(argv, "--blobs=%s/images/blobs", images->root);
    strv_addf(argv, "--downloads=%lld", (long long)images->parallel_downloads);
    strv_addf(argv, "--per-pull=%lld", (long long)images->parallel_downloads_per_pull);
    strv_addf(argv, "--stall=%lld", (long long)images->stall_seconds);
    strv_addf(argv, "--least-rate=%lld", (long long)images->least_bytes_per_second);
    for (size_t i = 0; i < images->certs_dirs.count; i++)
        strv_addf(argv, "--certs=%s", images->certs_dirs.items[i]);
    if (images->keep_layer_blobs)
        strv_add(argv, "--keep-blobs");
}

static void
make_environment(struct strv *environment)
{
    static const char *const passed_on[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"};
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
        if (getenv(passed_on[i]))
            strv_addf(environment, "%s=%s", passed_on[i], getenv(passed_on[i]));
    /* In capitals libcurl doesn't read it, as a CGI program's environment could have it from a request's header. */
    if (getenv("HTTP_PROXY") && !getenv("http_proxy"))
        strv_addf(environment, "http_proxy=%s", getenv("HTTP_PROXY"));
}

/* posix_spawn: vfork inside, so nothing of crispd's many threads and locks is touched between fork and exec. A process group of its own, so that a
 * terminal's Ctrl-C is crispd's to act on. */
static int
spawn(struct pulls *pulls, int theirs, pid_t *pid, struct error *err)
{
    cleanup_strv struct strv argv = {0}, environment = {0};
    make_arguments(pulls, &argv);
    make_environment(&environment);
    char *none[] = {NULL};
    sigset_t all, empty;
    (void)sigfillset(&all);
    (void)sigemptyset(&empty);
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawnattr_setsigmask(&attributes, &empty);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, theirs, PULL_SOCKET_FD);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addclosefrom_np(&actions, PULL_SOCKET_FD + 1);
    int errnum = posix_spawn(pid, pulls->images->pull_program, &actions, &attributes, argv.items, environment.count ? environment.items : none);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return errnum ? error_errno(err, errnum, "start %s", pulls->images->pull_program) : 0;
}

static int
start_process(struct pulls *pulls, struct error *err)
{
    int ends[2];
    pid_t pid;
    TRY(make_session(pulls, err));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_errno(err, errno, "socketpair");
    pulls->socket = ends[0];
    cleanup_close int theirs = ends[1];
    TRY(spawn(pulls, theirs, &pid, err));
    pulls->pidfd = pidfd_open(pid, 0);
    (void)fcntl(pulls->socket, F_SETFL, O_NONBLOCK);
    return pulls->pidfd < 0 ? error_errno(err, errno, "pidfd of crisp-pull") : 0;
}

/* Close the socket, which ends it; kill it if that doesn't. Fills in why, for those whose pulls it takes along. */
static void
end_process(struct pulls *pulls, struct error *why)
{
    siginfo_t info = {0};
    struct pollfd gone = {.fd = pulls->pidfd, .events = POLLIN};
    if (pulls->socket >= 0)
        (void)close(steal(pulls->socket));
    if (pulls->pidfd >= 0) {
        if (poll(&gone, 1, END_MS) == 0) {
            log_warn("crisp-pull does not end and is killed");
            (void)pidfd_send_signal(pulls->pidfd, SIGKILL, NULL, 0);
        }
        (void)waitid(P_PIDFD, (id_t)pulls->pidfd, &info, WEXITED);
        (void)close(steal(pulls->pidfd));
    }
    if (pulls->session >= 0)
        (void)close(steal(pulls->session));
    clear_incoming(pulls);
    clear_partial(pulls);
    bool killed = info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
    (void)error_set(why, ERR_INTERNAL, "crisp-pull ended in the middle (%s %d); try again", killed ? "signal" : "status", info.si_status);
}

static void
fail_all(struct pulls *pulls, enum state state, const struct error *why)
{
    for (;;) {
        (void)pthread_mutex_lock(&pulls->lock);
        struct pull *pull = pulls->all;
        while (pull && pull->state != state)
            pull = pull->next;
        (void)pthread_mutex_unlock(&pulls->lock);
        if (!pull)
            return;
        end_pull(pulls, pull, NULL, why);
    }
}

/* Pulls whose process died get one more try: it may have been dying already when they came. What makes it die twice fails. */
static void
queue_again(struct pulls *pulls)
{
    (void)pthread_mutex_lock(&pulls->lock);
    for (struct pull *pull = pulls->all; pull; pull = pull->next)
        if (pull->state == SENT && !pull->again) {
            pull->again = true;
            pull->cancel_sent = false;
            pull->state = QUEUED;
        }
    (void)pthread_mutex_unlock(&pulls->lock);
}

/* It died, or hangs, or could not be started: its pulls fail, the next one starts another. */
static void
fail_process(struct pulls *pulls, const struct error *reason)
{
    struct error why;
    end_process(pulls, &why);
    log_warn("crisp-pull is gone", "error", reason ? reason->message : why.message);
    if (!reason)
        queue_again(pulls);
    fail_all(pulls, SENT, reason ? reason : &why);
}

static int
send_message(struct pulls *pulls, const struct message *m, struct error *err)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (message_send(pulls->socket, m, err) == 0)
            return 0;
        struct pollfd writable = {.fd = pulls->socket, .events = POLLOUT};
        if (err->errnum != EAGAIN || poll(&writable, 1, SEND_MS) <= 0)
            break;
    }
    return -1;
}

/* ---- What goes over the socket ---- */

static void
send_queued(struct pulls *pulls)
{
    struct error err = {0};
    for (struct pull *pull; (pull = next_in(pulls, QUEUED, true));)
        end_pull(pulls, pull, NULL, &err);
    for (struct pull *pull; (pull = next_in(pulls, QUEUED, false));) {
        bool started = pulls->socket >= 0 || start_process(pulls, &err) == 0;
        (void)pthread_mutex_lock(&pulls->lock);
        pull->state = SENT;
        (void)pthread_mutex_unlock(&pulls->lock);
        if (!started || send_message(pulls, pull->start, &err) < 0) {
            /* A message too large is that pull's own fault. */
            if (started && err.errnum == 0 && err.kind == ERR_EXHAUSTED)
                end_pull(pulls, pull, NULL, &err);
            else
                fail_process(pulls, &err);
        }
    }
}

static void
send_cancels(struct pulls *pulls)
{
    struct error err;
    for (struct pull *pull; (pull = next_in(pulls, SENT, true));) {
        pull->cancel_sent = true;
        message_begin(pulls->message, PULL_CANCEL, pull->serial);
        if (send_message(pulls, pulls->message, &err) < 0) {
            fail_process(pulls, &err);
            return;
        }
    }
}

/* Which layers are here; and they stay, as those that come do, until the pull's end. */
static int
answer_layers(struct pulls *pulls, const struct pull *pull, const struct message *question, struct error *err)
{
    char holder[32];
    cleanup_strv struct strv chains = {0}, names = {0};
    size_t cursor = 0, length;
    for (const char *chain; (chain = message_next(question, PULL_CHAIN, &cursor, &length));)
        strv_take(&chains, str_ndup(chain, length));
    holder_of(pull->serial, holder);
    images_claim(pulls->images, holder, &chains, &names);
    message_begin(pulls->message, PULL_HAVE, pull->serial);
    for (size_t i = 0; i < names.count; i++)
        message_put_string(pulls->message, PULL_NAME, names.items[i]);
    return send_message(pulls, pulls->message, err);
}

/* A failed commit ends the rest of the import as well. */
static int
commit(struct pulls *pulls, struct pull *pull, struct message *done, struct error *err)
{
    struct error why = {0};
    cleanup_free char *id = images_commit(pulls->images, pull->reference, pulls->session, done, &why);
    uint32_t serial = pull->serial;
    bool more = message_u64(done, PULL_MORE) != 0 && pull->archive >= 0;
    if (id && pull->archive >= 0 && !strv_has(&pull->results, id))
        strv_add(&pull->results, id);
    if (!id || !more)
        end_pull(pulls, pull, id, &why);
    message_begin(pulls->message, PULL_COMMITTED, serial);
    TRY(send_message(pulls, pulls->message, err));
    if (id || !more)
        return 0;
    message_begin(pulls->message, PULL_CANCEL, serial);
    return send_message(pulls, pulls->message, err);
}

static void
end_failed(struct pulls *pulls, struct pull *pull, const struct message *failed)
{
    struct error why = {0};
    uint64_t kind = message_u64(failed, PULL_ERROR_KIND);
    (void)error_set(&why, kind > ERR_NONE && kind <= ERR_SIGNATURE ? (enum error_kind)kind : ERR_INTERNAL, "%s",
                    message_string(failed, PULL_ERROR_MESSAGE));
    why.errnum = (int)message_i64(failed, PULL_ERROR_ERRNO);
    end_pull(pulls, pull, NULL, &why);
}

static void
take_notes(struct pull *pull, const struct message *m)
{
    size_t cursor = 0, length;
    for (const char *note; (note = message_next(m, PULL_NOTE, &cursor, &length));)
        strv_take(&pull->results, str_ndup(note, length));
}

/* A pull that was cancelled after crisp-pull had sent PULL_DONE: the cancellation is on its way, nothing is kept. */
static int
handle(struct pulls *pulls, struct message *m, struct error *err)
{
    struct pull *pull = find_serial(pulls, m->serial);
    struct error gone = {.kind = ERR_CANCELLED};
    if (!pull)
        return 0;
    switch (m->type) {
    case PULL_LAYERS:
        return answer_layers(pulls, pull, m, err);
    case PULL_DONE:
        if (!pull->cancel_sent)
            return commit(pulls, pull, m, err);
        end_pull(pulls, pull, NULL, &gone);
        return 0;
    case PULL_ACCOUNT:
        take_notes(pull, m);
        return 0;
    case PULL_EXPORTED:
        take_notes(pull, m);
        end_pull(pulls, pull, "", NULL);
        return 0;
    case PULL_FAILED:
        end_failed(pulls, pull, m);
        return 0;
    default:
        return error_set(err, ERR_INTERNAL, "crisp-pull sent a message of type %u", m->type);
    }
}

static void
receive(struct pulls *pulls)
{
    cleanup_free struct message *m = mem_alloc(sizeof *m);
    while (pulls->socket >= 0) {
        struct error err = {0};
        int got = message_receive(pulls->socket, m, &err);
        if (got < 0 && err.errnum == EAGAIN)
            return;
        int result = got > 0 ? handle(pulls, m, &err) : -1;
        if (got > 0)
            message_close_fds(m);
        if (result < 0)
            fail_process(pulls, got == 0 ? NULL : &err);
    }
}

/* Until when may crisp-pull idle? In milliseconds for poll; -1: no end in sight. */
static int
idle_ms(struct pulls *pulls, bool *closing)
{
    (void)pthread_mutex_lock(&pulls->lock);
    bool busy = pulls->all != NULL;
    int64_t left = pulls->idle_since_ns + IDLE_NS - clock_monotonic_ns();
    *closing = pulls->closing;
    (void)pthread_mutex_unlock(&pulls->lock);
    if (busy || pulls->socket < 0)
        return -1;
    return left > 0 ? (int)(left / NS_PER_MS) + 1 : 0;
}

static void
end_all(struct pulls *pulls)
{
    struct error why;
    if (pulls->socket >= 0)
        end_process(pulls, &why);
    (void)error_set(&why, ERR_CANCELLED, "crispd is ending");
    fail_all(pulls, SENT, &why);
    fail_all(pulls, QUEUED, &why);
}

static void *
run(void *arg)
{
    struct pulls *pulls = arg;
    clear_incoming(pulls);
    clear_partial(pulls);
    for (;;) {
        bool closing;
        int timeout = idle_ms(pulls, &closing);
        if (closing) {
            end_all(pulls);
            return NULL;
        }
        struct pollfd p[2] = {{.fd = pulls->wake, .events = POLLIN}, {.fd = pulls->socket, .events = POLLIN}};
        int n = poll(p, 2, timeout);
        eventfd_t ignored;
        struct error unused;
        (void)eventfd_read(pulls->wake, &ignored);
        if (n == 0)
            end_process(pulls, &unused);
        /* Its death is seen before more is asked of it. */
        if (pulls->socket >= 0)
            receive(pulls);
        send_queued(pulls);
        if (pulls->socket >= 0)
            send_cancels(pulls);
    }
}

struct pulls *
pulls_start(struct images *images, struct error *err)
{
    struct pulls *pulls = mem_zalloc(1, sizeof *pulls);
    pulls->images = images;
    pulls->socket = pulls->pidfd = pulls->session = -1;
    pulls->message = mem_alloc(sizeof *pulls->message);
    pulls->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&pulls->lock, NULL);
    (void)pthread_cond_init(&pulls->left, NULL);
    int errnum = pulls->wake < 0 ? errno : pthread_create(&pulls->thread, NULL, run, pulls);
    if (!errnum)
        return pulls;
    (void)error_errno(err, errnum, "start the thread for pulls");
    if (pulls->wake >= 0)
        (void)close(pulls->wake);
    free(pulls->message);
    free(pulls);
    return NULL;
}

bool
pulls_own(struct pulls *pulls, const char *session)
{
    (void)pthread_mutex_lock(&pulls->lock);
    bool own = str_eq(pulls->session_name, session);
    (void)pthread_mutex_unlock(&pulls->lock);
    return own;
}

void
pulls_stop(struct pulls *pulls)
{
    (void)pthread_mutex_lock(&pulls->lock);
    pulls->closing = true;
    (void)pthread_mutex_unlock(&pulls->lock);
    wake_thread(pulls);
    (void)pthread_join(pulls->thread, NULL);
    (void)pthread_mutex_lock(&pulls->lock);
    while (pulls->callers)
        (void)pthread_cond_wait(&pulls->left, &pulls->lock);
    (void)pthread_mutex_unlock(&pulls->lock);
    (void)close(pulls->wake);
    (void)pthread_cond_destroy(&pulls->left);
    (void)pthread_mutex_destroy(&pulls->lock);
    free(pulls->message);
    free(pulls);
}
