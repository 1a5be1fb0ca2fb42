"""The lake's folders and small files, through the Hadoop client in Spark's JVM.

hdfs-native creates a small file in about half a second; the JVM's client, told not to wait for
late block reports, in a hundredth of that. Renames here refuse an existing target.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from streamkeeper.errors import LakeUnavailable

_AWAY = (
    "java.net.ConnectException",
    "java.net.NoRouteToHostException",
    "java.net.UnknownHostException",
    "java.net.SocketTimeoutException",
    "java.nio.channels.ClosedChannelException",
    "org.apache.hadoop.ipc.StandbyException",
    "org.apache.hadoop.ipc.RpcException",
    "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
    "org.apache.hadoop.net.ConnectTimeoutException",
)
_EXISTS = "org.apache.hadoop.fs.FileAlreadyExistsException"
_MISSING = "java.io.FileNotFoundException"


class LakeFiles:
    """Folders and small files of one lake.

    Parameters: spark, the session whose JVM is used; lake, `hdfs://host:port` or `file:///`.
    All paths are absolute, without scheme. Every method raises LakeUnavailable when the lake does
    not answer.
    """

    def __init__(self, spark: SparkSession, lake: str) -> None:
        self.lake = lake.rstrip("/")
        jvm: Any = spark._jvm
        self._jvm, self._fs_package = jvm, jvm.org.apache.hadoop.fs
        configuration = spark._jsc.hadoopConfiguration()
        uri = jvm.java.net.URI(lake)
        with self._errors():
            self._system = self._fs_package.FileSystem.get(uri, configuration)
            self._context = self._fs_package.FileContext.getFileContext(uri, configuration)
        rename = getattr(self._fs_package, "Options$Rename")
        gateway: Any = spark._sc._gateway
        self._refuse_existing = gateway.new_array(rename, 1)
        self._refuse_existing[0] = rename.NONE
        self._overwrite = gateway.new_array(rename, 1)
        self._overwrite[0] = rename.OVERWRITE

    def url(self, path: str) -> str:
        """Return a path as Spark reads it."""
        return f"{self.lake}{path}"

    def _path(self, path: str) -> Any:
        return self._fs_package.Path(self.url(path))

    def exists(self, path: str) -> bool:
        """Tell whether a file or folder is there."""
        with self._errors():
            return bool(self._system.exists(self._path(path)))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; none if it is missing."""
        try:
            with self._errors():
                found = self._system.listStatus(self._path(folder))
                return sorted(status.getPath().getName() for status in found)
        except FileNotFoundError:
            return []

    def read(self, path: str) -> str:
        """Return a small text file; FileNotFoundError if it is missing."""
        with self._errors():
            stream = self._system.open(self._path(path))
            try:
                return bytes(stream.readAllBytes()).decode()
            finally:
                stream.close()

    def write(self, path: str, text: str) -> None:
        """Create a small text file and its folders; FileExistsError if it is there."""
        with self._errors():
            stream = self._system.create(self._path(path), False)
            try:
                stream.write(bytearray(text.encode()))
            finally:
                stream.close()

    def make_folder(self, path: str) -> None:
        """Create a folder and those above it."""
        with self._errors():
            self._system.mkdirs(self._path(path))

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder in one step.

        Raises FileExistsError when the target is there, FileNotFoundError when the source, or the
        folder that the target would stand in, is missing.
        """
        with self._errors():
            self._context.rename(self._path(source), self._path(target), self._refuse_existing)

    def replace(self, source: str, target: str) -> None:
        """Rename a file over another one, or into its place, in one step.

        Raises FileNotFoundError when the source, or the target's folder, is missing.
        """
        with self._errors():
            self._context.rename(self._path(source), self._path(target), self._overwrite)

    def delete(self, path: str) -> None:
        """Delete a file, or a folder and all in it; nothing if it is missing."""
        with self._errors():
            self._system.delete(self._path(path), True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the JVM's errors into Python's."""
        try:
            yield
        except Py4JJavaError as error:
            raise _translated(error, self.lake) from error


def java_classes(error: Py4JJavaError) -> list[str]:
    """Return the class names of a Java error and its causes, outermost first."""
    found: list[str] = []
    cause = error.java_exception
    while cause is not None and len(found) < 20:
        name = cause.getClass().getName()
        found.append(cause.getClassName() if name.endswith("RemoteException") else name)
        cause = cause.getCause()
    return found


def _translated(error: Py4JJavaError, lake: str) -> Exception:
    classes = java_classes(error)
    told = str(error.java_exception.getMessage() or classes[0]).splitlines()[0]
    if _EXISTS in classes:
        return FileExistsError(told)
    if _MISSING in classes:
        return FileNotFoundError(told)
    if any(name in _AWAY for name in classes):
        return LakeUnavailable(
            f"the lake at {lake} does not answer: {told}; start HDFS (`make up`) or correct the "
            "connection webhdfs_default (STREAMKEEPER_LAKE)"
        )
    return OSError(f"{classes[0]}: {told}")
