"""What each kind of failure means to the people on site, and what they do then: one row for each class of error.

The English meaning is the error's own. Errors that only the sender's commands raise are left out.
"""

from installer.errors import (
    AirferryError,
    BundleError,
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    ContentError,
    IncompleteError,
    InterruptedByUserError,
    LackingError,
    NotFoundError,
    NothingHereError,
    NotReadyError,
    PolicyError,
    RecipeError,
    RegistryAccessError,
    RegistryUnreachableError,
    SiteError,
    StorageError,
    UntrustedError,
    UsageError,
)
from installer.page import Table, Words

_Kind = type[AirferryError] | type[InterruptedByUserError]

SENDERS: tuple[_Kind, ...] = (RecipeError,)
"""Those that nobody meets on site."""

ROWS: tuple[tuple[_Kind, str, Words], ...] = (
    (
        AirferryError,
        "airferry의 오류입니다",
        Words("Note what was printed, and tell the sender.", "출력된 내용을 그대로 발신자에게 알립니다."),
    ),
    (
        UsageError,
        "명령을 잘못 입력했거나 지정한 파일이 없습니다",
        Words(
            "Check the path that is printed, or add --help to the command.",
            "출력된 경로를 확인하거나, 명령 뒤에 --help를 붙여 사용법을 확인합니다.",
        ),
    ),
    (
        BundleError,
        "번들이 손상되었거나 형식에 맞지 않습니다",
        Words(
            "Copy the named volume again. If there is none, send back what `verify --request FILE` writes.",
            "표시된 볼륨을 다시 복사합니다. 원본이 없으면 `verify --request FILE`이 만든 파일을 발신자에게 보냅니다.",
        ),
    ),
    (
        UntrustedError,
        "서명이 없거나 신뢰하는 키로 서명되지 않았습니다",
        Words(
            "Do not use it. Call the sender, and the security officer.",
            "사용하지 말고 발신자와 보안 담당자에게 알립니다.",
        ),
    ),
    (
        IncompleteError,
        "번들의 볼륨이 빠져 있습니다",
        Words(
            "Bring the named volume. If it is lost: `repair` with parity files, else as for 10.",
            "표시된 볼륨을 준비합니다. 분실했으면 패리티 파일로 `repair`를 실행하고, 없으면 10번과 같이 합니다.",
        ),
    ),
    (
        PolicyError,
        "번들은 진본이지만 만료되었거나, 생성 시각이 미래이거나, 더 새로운 프로그램이 필요합니다",
        Words(
            "Compare this machine's clock; ask for a current bundle.",
            "이 장비의 시계를 확인하고, 새 번들을 요청합니다.",
        ),
    ),
    (
        LackingError,
        "업데이트가 생략한 내용이 레지스트리에 없습니다",
        Words(
            "Send back what `load --request FILE` writes.", "`load --request FILE`이 만든 파일을 발신자에게 보냅니다."
        ),
    ),
    (
        RegistryUnreachableError,
        "레지스트리나 차트 저장소에 연결할 수 없습니다",
        Words(
            "Check its address, the network and that it runs; then run the command again.",
            "주소와 네트워크, 동작 여부를 확인한 뒤 명령을 다시 실행합니다.",
        ),
    ),
    (
        RegistryAccessError,
        "레지스트리가 인증을 거부했거나 그 인증서를 신뢰할 수 없습니다",
        Words("Check user, password and --ca.", "사용자 이름, 비밀번호, --ca를 확인합니다."),
    ),
    (
        NotFoundError,
        "이미지나 차트를 원본에서 찾을 수 없습니다",
        Words("Check the name that is printed.", "출력된 이름을 확인합니다."),
    ),
    (
        ContentError,
        "내용이 다이제스트와 다르거나 레지스트리가 내용을 거부했습니다",
        Words(
            "Run it again; if it stays, show the message to the registry's administrator.",
            "다시 실행하고, 계속되면 레지스트리 관리자에게 메시지를 보여 줍니다.",
        ),
    ),
    (
        ClusterUnreachableError,
        "Kubernetes API 서버에 연결할 수 없습니다",
        Words("Check the kubeconfig and the network.", "kubeconfig와 네트워크를 확인합니다."),
    ),
    (
        ClusterForbiddenError,
        "Kubernetes API 서버가 인증을 거부했거나 권한이 없습니다",
        Words("Ask for the permission that is printed.", "출력된 권한을 요청합니다."),
    ),
    (
        NotReadyError,
        "워크로드가 준비되지 않았으며, 원인이 함께 출력됩니다",
        Words("Remove the cause that is printed; then `status`.", "출력된 원인을 해결한 뒤 `status`로 확인합니다."),
    ),
    (
        ClusterError,
        "클러스터가 객체를 거부했거나 차트를 설치 또는 제거할 수 없습니다",
        Words("Follow the line that begins with `next:`.", "`next:`로 시작하는 줄의 안내를 따릅니다."),
    ),
    (
        SiteError,
        "site.yaml의 값이 없거나 잘못되었습니다",
        Words("Correct the line that is printed.", "출력된 항목을 고칩니다."),
    ),
    (
        NothingHereError,
        "대상이 없습니다: 이 클러스터에 설치된 것이 없거나, 해당 리비전이나 템플릿이 없습니다",
        Words(
            "Check that it is the right cluster, name and namespace.",
            "클러스터, 이름, 네임스페이스가 맞는지 확인합니다.",
        ),
    ),
    (
        StorageError,
        "로컬 디스크가 가득 찼거나, 읽기 전용이거나, 고장 났습니다",
        Words(
            "Free some space. A medium that cannot be read: try another drive, else as for 10.",
            "공간을 확보합니다. 매체를 읽을 수 없으면 다른 드라이브를 써 보고, 안 되면 10번과 같이 합니다.",
        ),
    ),
    (
        InterruptedByUserError,
        "중단되었으며, 같은 명령을 실행하면 이어서 진행합니다",
        Words("Run the same command again.", "같은 명령을 다시 실행합니다."),
    ),
)


def failures() -> Table:
    """The rows as a table: exit code, meaning and what to do."""
    head = (Words("CODE", "코드"), Words("MEANING, AND WHAT TO DO", "의미와 조치"))
    return Table(
        tuple((str(kind.exit_code), _ROW(meaning=Words(kind.meaning, korean), do=do)) for kind, korean, do in ROWS),
        head,
    )


_ROW = Words("{meaning}. {do}", "{meaning}. {do}")
