/* Counts system calls in the daemon, and lets the n-th of them fail or be the last. Preloaded (ld.so(8), LD_PRELOAD).
 *
 * What strikes stands in the environment, when it strikes in a file that is mapped into every process: so it can be
 * seen, armed and lifted from outside while the daemon runs (support/shim.py says it all).
 *
 *   INBOXD_SHIM_CONTROL  the mapped file: struct control
 *   INBOXD_SHIM_CALLS    families of calls, as in FAMILIES below, between commas
 *   INBOXD_SHIM_ACTION   a number of errno; "kill" (SIGKILL in place of the call); "torn" (likewise, half of a write done);
 *                        "hang" (it waits until that is lifted)
 *   INBOXD_SHIM_PATHS    fnmatch(3) pattern of the paths that count; calls without a path count always
 *   INBOXD_SHIM_COMMAND  what the command line of a process contains that counts; arguments parted by spaces
 *   INBOXD_SHIM_LOG      a file that each counted call is written to: pid, call, path, what it came to
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    _Atomic uint64_t counted;     /* calls so far, in all processes */
    _Atomic uint64_t first, last; /* those that are struck; 0: none */
    _Atomic uint64_t struck;      /* how many were */
};

enum { RENAME = 1, SYNC = 2, WRITE = 4, OPEN = 8, UNLINK = 16, MKDIR = 32, READ = 64, TRUNCATE = 128, WATCH = 256 };
static const struct { const char *name; int family; } FAMILIES[] = {
    {"rename", RENAME}, {"sync", SYNC}, {"write", WRITE}, {"open", OPEN}, {"unlink", UNLINK},
    {"mkdir", MKDIR}, {"read", READ}, {"truncate", TRUNCATE}, {"watch", WATCH},
};
enum { KILL = -1, TORN = -2, HANG = -3 };

static struct control *control;
static int families, action, log_fd = -1;
static const char *paths = "*";

static int runs_as(const char *command)
{
    char line[4096];
    int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    long length = syscall(SYS_read, fd, line, sizeof line - 1);
    syscall(SYS_close, fd);
    for (long i = 0; i < length; i++)
        if (!line[i])
            line[i] = ' ';
    line[length > 0 ? length : 0] = 0;
    return strstr(line, command) != NULL;
}

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("INBOXD_SHIM_CONTROL"), *calls = getenv("INBOXD_SHIM_CALLS");
    const char *what = getenv("INBOXD_SHIM_ACTION"), *command = getenv("INBOXD_SHIM_COMMAND");
    if (!file || !calls || !what || (command && !runs_as(command)))
        return;
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++)
        if (strstr(calls, FAMILIES[i].name))
            families |= FAMILIES[i].family;
    action = !strcmp(what, "kill") ? KILL : !strcmp(what, "torn") ? TORN : !strcmp(what, "hang") ? HANG : atoi(what);
    if (getenv("INBOXD_SHIM_PATHS"))
        paths = getenv("INBOXD_SHIM_PATHS");
    if (getenv("INBOXD_SHIM_LOG"))
        log_fd = syscall(SYS_openat, AT_FDCWD, getenv("INBOXD_SHIM_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
    void *place = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (place == MAP_FAILED)
        abort();
    control = place;
}

/* Absolute path of `name` below `fd`, or of `fd` itself; "" where there is none. */
static const char *path_of(int fd, const char *name, char *place)
{
    char link[32];
    long length = 0;
    place[0] = 0;
    if (!name || name[0] != '/') {
        snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        length = syscall(SYS_readlink, link, place, PATH_MAX);
        place[length > 0 ? length : 0] = 0;
    }
    if (name && length >= 0 && length < PATH_MAX)
        snprintf(place + length, PATH_MAX - length, length ? "/%s" : "%s", name);
    return place;
}

static void told(const char *call, const char *path, const char *became)
{
    char line[PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%d %s %s %s\n", getpid(), call, path, became);
    if (log_fd >= 0)
        syscall(SYS_write, log_fd, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
}

/* 0: let it through; else an errno, or TORN. Does not return when it kills. */
static int strikes(int family, const char *call, int fd, const char *name)
{
    char place[PATH_MAX + 1];
    int before = errno;
    if (!control || !(families & family))
        return 0;
    if (*path_of(fd, name, place) && fnmatch(paths, place, 0)) {
        errno = before;
        return 0;
    }
    uint64_t number = atomic_fetch_add(&control->counted, 1) + 1, first = atomic_load(&control->first);
    int now = first && first <= number && number <= atomic_load(&control->last);
    told(call, place, !now ? "ok" : action == HANG ? "hang" : action < 0 ? "kill" : strerrorname_np(action));
    errno = before;
    if (!now)
        return 0;
    atomic_fetch_add(&control->struck, 1);
    if (action == HANG) {
        while (atomic_load(&control->first))
            usleep(10000);
        errno = before;
        return 0;
    }
    if (action == KILL || (action == TORN && family != WRITE))
        for (;;)
            kill(getpid(), SIGKILL);
    return action;
}

static int refused(int number)
{
    errno = number;
    return -1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define CALL(type, family, name, fd, path, parameters, arguments)       \
    type name parameters                                                 \
    {                                                                    \
        REAL(name);                                                      \
        int number = strikes(family, #name, fd, path);                   \
        return number ? (type)refused(number) : real arguments;          \
    }
#define WRITES(name, parameters, arguments)                              \
    ssize_t name parameters                                              \
    {                                                                    \
        REAL(name);                                                      \
        int number = strikes(WRITE, #name, fd, NULL);                    \
        if (number == TORN) {                                            \
            size /= 2;                                                   \
            real arguments;                                              \
            kill(getpid(), SIGKILL);                                     \
        }                                                                \
        return number ? refused(number) : real arguments;                \
    }
#define OPENS(name)                                                      \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                    \
        REAL(name);                                                      \
        int number = strikes(OPEN, #name, AT_FDCWD, path);               \
        return number ? refused(number) : real(path, flags, mode);       \
    }
#define OPENS_AT(name)                                                   \
    int name(int fd, const char *path, int flags, ...)                   \
    {                                                                    \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                    \
        REAL(name);                                                      \
        int number = strikes(OPEN, #name, fd, path);                     \
        return number ? refused(number) : real(fd, path, flags, mode);   \
    }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
DIR *opendir(const char *path)
{
    REAL(opendir);
    int number = strikes(OPEN, "opendir", AT_FDCWD, path);
    return number ? (refused(number), NULL) : real(path);
}
WRITES(write, (int fd, const void *buffer, size_t size), (fd, buffer, size))
WRITES(pwrite, (int fd, const void *buffer, size_t size, off_t at), (fd, buffer, size, at))
WRITES(pwrite64, (int fd, const void *buffer, size_t size, off64_t at), (fd, buffer, size, at))
CALL(ssize_t, READ, read, fd, NULL, (int fd, void *buffer, size_t size), (fd, buffer, size))
CALL(ssize_t, READ, pread, fd, NULL, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at))
CALL(ssize_t, READ, pread64, fd, NULL, (int fd, void *buffer, size_t size, off64_t at), (fd, buffer, size, at))
CALL(int, SYNC, fsync, fd, NULL, (int fd), (fd))
CALL(int, SYNC, fdatasync, fd, NULL, (int fd), (fd))
CALL(int, SYNC, syncfs, fd, NULL, (int fd), (fd))
CALL(int, TRUNCATE, ftruncate, fd, NULL, (int fd, off_t size), (fd, size))
CALL(int, TRUNCATE, ftruncate64, fd, NULL, (int fd, off64_t size), (fd, size))
CALL(int, UNLINK, unlink, AT_FDCWD, path, (const char *path), (path))
CALL(int, UNLINK, rmdir, AT_FDCWD, path, (const char *path), (path))
CALL(int, UNLINK, unlinkat, fd, path, (int fd, const char *path, int flags), (fd, path, flags))
CALL(int, MKDIR, mkdir, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(int, MKDIR, mkdirat, fd, path, (int fd, const char *path, mode_t mode), (fd, path, mode))
CALL(int, RENAME, rename, AT_FDCWD, from, (const char *from, const char *to), (from, to))
CALL(int, RENAME, renameat, fd, from, (int fd, const char *from, int to_fd, const char *to), (fd, from, to_fd, to))
CALL(int, RENAME, renameat2, fd, from, (int fd, const char *from, int to_fd, const char *to, unsigned int flags),
     (fd, from, to_fd, to, flags))

/* inotify(7) is asked for paths below /proc: they say nothing, so every watch counts. */
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *path, uint32_t mask);
CALL(int, WATCH, inotify_init1, -1, NULL, (int flags), (flags))
CALL(int, WATCH, inotify_add_watch, -1, NULL, (int fd, const char *path, uint32_t mask), (fd, path, mask))
