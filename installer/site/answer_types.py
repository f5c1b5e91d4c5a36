"""The texts that answers in site.yaml are made of, each with the rule that it must follow."""

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from installer.errors import AirferryError
from installer.oci.reference import Repository


def _is_registry(text: str) -> str:
    try:
        Repository(text, "x")
    except AirferryError as exc:
        raise ValueError(f"{exc.message}; write it like registry.example:5000") from None
    return text


def _is_project(text: str) -> str:
    try:
        return text and Repository("localhost", text).path
    except AirferryError as exc:
        raise ValueError(exc.message) from None


def _is_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", text, re.ASCII):
        raise ValueError("must be http://HOST or https://HOST, without a path")
    return text.rstrip("/")


def _is_proxy(text: str) -> str:
    if "@" in text:
        raise ValueError("a proxy's password would stand in the cluster for everybody to read; use one without login")
    return _is_url(text)


def _is_issuer(text: str) -> str:
    # The address of the provider's own description, which people copy: the issuer is what stands before it.
    text = text.removesuffix("/.well-known/openid-configuration")
    if not re.fullmatch(r"https?://[^\s?#@]+", text, re.ASCII):
        raise ValueError("must be an http(s) URL without query and login")
    return text


def _is_no_template(text: str) -> str:
    """Charts may hand such values to Helm's template engine (`tpl`)."""
    if "{{" in text:
        raise ValueError("must not hold {{, which Helm would take for a template")
    return text


def _is_secret_name(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and is_dns_name(value)):
        return value
    raise ValueError("neither true, nor false, nor the name of a Secret")


_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)


def is_dns_name(text: str) -> bool:
    """Whether `text` is a name that an Ingress rule may hold: lower case, no port, no IP address (RFC 1123)."""
    if len(text) > 253 or not _DNS_NAME.fullmatch(text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return True
    return False


# RFC 1123 labels, as Kubernetes asks of namespaces; object names may hold dots.
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
SecretName = Annotated[bool | str, BeforeValidator(_is_secret_name)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,251}$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
PlainText = Annotated[str, Field(max_length=4000), AfterValidator(_is_no_template)]
File = Annotated[str, Field(min_length=1, max_length=4096)]
RegistryHost = Annotated[str, Field(max_length=300), AfterValidator(_is_registry)]
Project = Annotated[str, AfterValidator(_is_project)]
Url = Annotated[str, Field(max_length=300), AfterValidator(_is_url)]
ProxyUrl = Annotated[str, Field(max_length=300), AfterValidator(_is_proxy)]
IssuerUrl = Annotated[str, Field(max_length=1000), AfterValidator(_is_issuer)]
# The charts put these into URLs as they are, so they hold nothing that means something there.
ServerName = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,45}\])$")]
ServerPort = Annotated[int, Field(ge=1, le=65535)]
Endpoint = Annotated[str, Field(pattern=r"^(https?://)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?/?$")]
UrlWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,250}$")]
UrlPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", max_length=1000)]
DnsName = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
