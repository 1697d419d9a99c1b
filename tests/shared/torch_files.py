"""Files of torch.save, written by PyTorch 2.14.1 and kept here compressed, so that PyTorch is not needed."""

import base64
import zlib

import ml_dtypes
import numpy as np

ZIP = (
    r"""c-o~_%X8aA7+*hPJEnCWgoXwvh4OG9b!5wyk|vE4wWt)8CQ&Jv%rG9sQDaXP%b&ang`q<jCIM~?Cr*?Le*-"""
    r"""rr!+*d5h64wf9)J_q9@&TOXq7r{6OGrhHQ(>C`+fVZmW)Ugp+o{5xCYTMvb;*Qwq;MQS=h=nZacb`LMy_x9li@FUFsu%CbqB*p-"""
    r"""RPd9J_*RZoQdY^ww<8Ub|eY;3R~{O^BpRArfmrw1Qp2o+)qQn$t{{J$rSt=B$;mU2nQxc`KKMzI3`2XT+{&t=kaekfiRo7QVqBCL"""
    r"""zuUB}kMa<X&lPLcehWLvq<bM#PBj!V^Z+2<^g&ud39*Nen3y1{es#V3mkeW7T*yQDv~9Wg}#SjmRzxlOF{AB!`V)c*=xR3|56v4r"""
    r"""}?*n4zrFvGg<x%fe~G8OAV1t%P^r86&g<&vL%!Fq|>rc@|iQvjX2Wx4z!tdVz)H;6=g}!f=jojgNDVmoU6+!YeFb6<!rRxvtaU;A"""
    r"""<|!IQR2f%g^i7&jjZ>k0E2iBnxbS)Fn9$%d<9YY<o$_wpWfp@{r@)a*I1pxeJ_I!JwKj^(Ff={RLbwVTPe>m=#zGaFMW(w9HW!M6"""
    r"""*yNIV8!O=S&M2G!rhd;0jz8W_-!rXgKyAu{hpfp$h1H^{!A}V(d-"""
    r"""&b(M3zg~2f4+9s=EyWv)<@U{^tMQLKlWZ^oitGbP0kv(*3O$<vPz;arUzgpi{HJPdkH~5;o(^`|8RP|l1`W}Xo3GZJiKH$6U`Yx>"""
    r"""4o0%meo~Xj7|11(sI+nU_&rvkd*`AqOuD4;~@|Nv2$+pwAbYPcuzp_;E$N&ELoI0kXyW$v9_Z3@vvTQlE_4<Zg$GRpzvZ(J;^3*`"""
    r"""_L-"""
    r""";pLB*KRp7(&I4fz^+&?b7C=YcogDZC_3eW5=c*b}rsO9V05SLp`L>oX`~~C0)C43<I2XyGXv~$%l+>GQKBckBmRbKntW7lW~>|X@"""
    r"""NSubNAMqM0;Kjrz4`%tga0naJpASdz3T2ymFsbceDrRyvUi;wb|n=|4O{YOg%Jy``e|Wi5?ziMGvyBO&!@oh$;Vc?&nhP`b!~ARL"""
    r"""<+#+_7d)^G|cXU8F9)UXJ}L&L2I>{0qmK|6|mT^04}8*Dm$H^+Pdpg#4+;%U?Td@x&*ipGA7>51^Tjey3roM>QZPsq!!1t>5fjKW"""
    r"""9*Gzk#x;H*K#*I_Sq1eOoHm)^siNm`0?joHC{4RaGu1Qof+7sw7GBv{aBKMOF&(lq^ZpSw*5Q{~EFHrHPL;a~Yy$J3jq~&fo#(!S"""
    r"""}!*+JAtI3dnmA)a{rGlK2mSF|qMS(IF>KkjLN1hXkH)d_0{4BnbC+*OUN1)rSJTKZx~rQ4zZr#Abt7fA<ryBe4KB7sUGemx%o~h?"""
    r"""Rp_f7cPQ!|?z%-^M<?FA2IqY$2%Y?-nAKJ`y`m5bNLRBDNI7szI!OuMP;<-+kCFHR|6&X9Td>k9utGB_kG_Xt#pM`2!2rzBeQM{-"""
    r"""D2oG{)E|dHW>)&)?GeVjPoV@jUi_X-EXW"""
)

STREAM = (
    r"""c-"""
    r"""nQ7*>2N76o$Pe0n<X+DQnpimf$9ild`27EyZ1376YoH)EU)AuAO5~DnP1~n})(OaKR;y(MREyHvowXj+ZVeW|TAbEdKsKXXdoIFQ"""
    r"""WbD>%{MYci-px^KEYCCy)I)Fj>8iVVI`pQrB?p+8XhE%XNUo4SFxG*cPQWsS&4P)g9nAbrC1&hbF1{)<@z4zYaoHPvN9*x*mm;%I"""
    r"""Q3gEQdl`6?7qBxXub>RH4<{)(rR4IwimwC~FggqN*>>c@5%`#<*or5xATNd{$?1Zyf}Kx}IU?Yb|QozF70fa?7$CHA)=c^=fMc5m"""
    r"""MQ#o(aLOS6?BJjy@45Y`0Dqqe&4m`eEENBr8&(SSU)8T&YNKAoOfBTX0bAnWZ2usEo?1LI)11g35NF=d&5u>7{U3gCn6Q3VkL@nr"""
    r"""Sl;dDM(h#}-sp<y5`{$MFS;CnD5I3a2zU9imJ)6QN?qqoL(NWyf^?K82zzOK=tyI8-"""
    r"""<nnB_L$yvlCCg@}HU!X*s`Lb?N&yXez+96RJIyX1mYR*Gdr!&M}+NWO;TTrMJBr*K1qn;~%-"""
    r"""vfX}N*WMxK_IoW=WVjW3y&ZeK6L`HFk@FPpX&{B<CJg@Ppqq8CzDg+ZL@4~5_sF|kQlJ<s$+1!?P*NhLGKGo;L!05?{wH{#!NX9N"""
    r"""z@ublL6PMOJVqvi%xb`7g0mdP+kw|&B;t-z7}H=pL>cg;D>q~AYSSj~yD#CyewC6U!DO8Er-"""
    r"""2HZo(j5Wk%CHLT7#KZSUIHW8YaxDd{|u$rUmB03+xaI^HIrJK81xP(7F$5%Gvd>*yW+Dlqv-op2yjH5ohmZ;Nex|L8tIqgEy1aUr"""
    r"""g9$JMfkSCA}1sbVAzLq<_gJT{u4JB!wh{siaCsCtbPZLMM49ZtV68)2?DSygkmuPp)gdUFG(C$L(3)sxn)<Ydy@~7LoCX(Z=|Ov4"""
    r"""!yigBf9%K8yhjY2+{8=~>P"""
)

MODEL = (
    r"""c-o~_U2oe|7<QaCN!^lu?4z_>3k(?P*it*+Sy{>g%8k+11%WIiWE{tdt-"""
    r"""5wz`?y(=ih!y65I+I5dxUnu6&FZM+CP8`uDC$riW}e_E;#47O>Czr+Bi~l;`2Vw`#e79eNVC_#wQpim10K59J9bEj;b5G+Im|-"""
    r"""O18IcHtK2SgV6YtRgsNRS<A}q*lo|$+^lI>n&NQp_!BT|pFwON*o;I}kfRuuVRa#XUz*0xa!+xT9Sv!Y3lsY=nUNBBwXYdn9YNwS"""
    r"""x$GgsbUE44TApFHha3))V<1SgT-%X%a~z~H87YaAx)`Z+HJI`#T*I^#^sc|i0Vl;UhKFe>j%T&!!HhV8;JI5OBeEiU7t(l&-"""
    r"""G$i)s%o32rXs_(T<)gR)*P+<wxJ>p=GK}pk6@t*r|#?I;q*N?(}c4U-eaa^C@w7ONgeyqr*vOWfamoYkwvgXbq-"""
    r""")zj2*za2b6st!AcWW{Zud9gBP3dl1Fz@Zh4&!*|H1!@UnD{tXQ@s_wbV8;#WsU0NK?LyrRl7*%f41vdrNX4qp8bE*`*ZO~^>6Xg)"""
    r""">V?kf)7T1S(0+un9zjmln<W<zm5_BxGSmd=ux;mRG)G{YFUazjd!XvcN}#4IJQOUol6xo;p{CJDMO@DwIU=SN|R*;n>lSyk{Ev>`"""
    r"""`<d1)aC9KJ(=hKthbvEh(pi9*ZLJb}7ML7LpghkBT(LZembOe8v#x=Iln{+r>-Y99}KgTk))XEp+}-"""
    r"""6O#o#cleheb`y>=004fU4sv@qbbO9@M2wLr5U_tduX`$mdJXo?3S2JE#2Vlhq$E4XKQS?FET5GZqMS4+EI|aORCAX8ug_}(+7q?B"""
    r""")<Fempi1G$!EO8GE*K(9QGnUO`~h=;DT+`^W#;<k5Yjc*zCjaES6wTG%(L>4h*#RkY<zCZPYiOMfYf!212GrJRDs6ZHZi6i4#4fn"""
    r"""Of*pUFRG1tN+8mg}q1Le^q)?`}UvHk5?*_kBO7d|Ni95IeLSi?4%HOA~fp!Q#<*&_r(w2T&mZI?$<Xj)`(E*MBQ0tW1u^zu=2BRL"""
    r"""7pSZKR)cf_uuEg%H)OxNMG6290OP2#|pX2Wux7wXP?ptUn~g%Un%DDC81g>^Tk}Xz*mJ*K`0c9ypStbszScZSBT4x{<^)E!9Ft7W"""
    r"""sH~|_zZUG+=%n&?{JhIY{113^N%<)uCJp>f=#p>N^)z0IiYi-"""
    r"""d4i2FAIkGnAkUxyqx4|)rbG1iCz(j^M7hBV40C^ta)l^2SVOZRF8N0isn{qvc(kkGcMgz`FS;!;k+^(RqVX#OW-"""
    r"""2mIv;KTL>Cc!)zulSgpZ(i+GU0Pl6z^mI1v*%K1^"""
)

OLD_MODEL = (
    r"""c-oa%-"""
    r"""E!N;6_#k(N#Xb>Ns~5lnrxZ=fC>dtlr7t=CC9O&Hp9kFWOa(EtpZD6A#4N!SnNWws^N?~9mh^ypwpQ?Kp!H_OZ2|?eT2^RqGxwO0"""
    r"""uZT8iwhChbIx~u_ncilZG3G+|M~0IztI<e`|K_2Y2(v>oq@k&wqV+q7Zw)MED?#9M9u-"""
    r"""pI89=<2n_ZGphQ%Nh&UwnDUMm=g>As1I7*4b=^qGZXU1&Fw9mpK50gx=vxA0x2EJ%4*tx-"""
    r"""yy(BS`c#pj_SjuzIY1-#tX_WYRMA(8SlFSROIJWc(w;~!7oEg8?KWx#y3+$aF6`e0SgvLQ9qQg#lB*G+KvsPC-oC>m%Vs9Vs5#CX"""
    r"""7ojC3ka2*Y2rAMq`KLUrm2y>1!y7{SMYV{2SPu6TU@1$u&2}d|aI0%3VX?Y|v9P=Q_Mp!_2kVudS38Jx=jA*=vd@OJu^?@4p-"""
    r"""6OPtp4|EU4*CEMUCU75J0ayr+k|+YrVuKQ`WXrO?hc80l5Ir^7Hhp*B3SD=N$lWJN;0xJk$(^)k7NSV7;QheJ3>A=pdR6EbQqEt<"""
    r"""y;yONQl*Suqw>~T~t&a(kKEhQmFK45CD2CP?`~s%8cI%($#gTctm^M?xu^tSu}*O9^%X|jJT8SaUCo9(AWtG7I{W^AIV}sNq`9UL"""
    r"""Tv!z;6g;E>`5+8;|J0lfg#1f_(^~`5i;PeyM-f8T(_-aAK@dCX~*J3pa`-QtGxL>74(28d25O$pL-"""
    r"""<0c_jJ(wUgz5q}_TL;*^wrt)Ne&{nK=s%Wd>4=dmD9#4(M>Emy`oBNOtni$(;B19TsuI3EqcswAlB_2~#Q3?b&SUZUKWxr!60Egb"""
    r"""t3l!^kVp2_>;X~f2^RWa~^3fNo=A(o|y7=kl|$m)1;QQA_m4+EoQfbhc~84HAYQQk5wbF7p~re?xN-A-LALSz(llS;)L61o?H*~%"""
    r"""Q5FFcgBsaCnH21zI?7QU1%wFFN5ou{}xFKR8<f~`l;0giIHt+P5FjiFR<1hwd+AWKFQ1&`&Ahoj@)jLntDoMqy8Un(fxT5ekhc%E"""
    r"""_lGB81gz2nvK@f?%J?uiOVC*mPjPYK3%2B78Et6e^@d-"""
    r"""@nM(RU@Pi=ZP+YG3c7GB7j2m;w7=gEJ>K|6hER=*Le~JK+7kF@@UP+(aXghjCGK@Lso#*1D}4hc4R<q(=)hZa+3xdpFvscY?9#I~"""
    r"""!<ZDw#Sp&0vO^n#Yp;%50Sk8vCJKeWbA0y1SYRQ$!o=I3DbIfn&iP2b4T&Ryt<0jhfYt*xWT{dMc<lW;^F(b+VcC_|PhS5`bEnNX"""
    r"""Id!wsH~$?fGpRz}lyD=o(2^>M%(na75NmNz#*O<32RB%A!0WRMuK(WfRHIvKa(e&i*4u4wyX-"""
    r"""u*Xde)$A9T5F&*m7v%4_^eBhnXtu1WudSN1R>emEu6)(mstyBR^|Q{XV+|~y;S9Q@0Ohsv*402psW>vtDoneoywyg_%XPO)yURBk"""
    r"""=y2CGC^J-Ns2Wk#TUR@ysKh5QMCX8KWRG$Hb<!z(Q!0c?m5DnMVNgOu$;u%E(+ZrSNr^cXAa}~-"""
    r"""eOt<KR0_e_gF_>dXRVOXtn5zu0G3N49EMzXQUh+K{Z*0QM-Pb*a^~U<*`myAEh)H<sXVzkc}(T8PIkuW5X8JxCj}3w2rGDnh`9oX"""
    r"""PYGC0@tnn$g|^@{<r6r+MUWg$NChqwBIW%~XAiXGLkmun@_4Jxv6ElQIdtjHwd<?hn?`kbSts0Z%u2ns!DHETt-"""
    r"""|eEiIoKfp34JNJvVxX#t_>!a?~CIWe#+GFORSwj;1-"""
    r"""#Th%KRUsZFfhBHiZI6`coRn$SHJsP1UZPBl26LnQ_qVCL)w(9;#yW40*0k<`NrT&0X9$FP^TTg>Yn^aY(Ur(vSJl2I!fIvlZKEJR"""
    r"""s0@;nxR&is|BczRL37A@2F%KqQhMkP0S-CN|IL#idL|UZekd%YH5(~W#YUhOSv@@uVpN-"""
    r""">_eG(>kwSyE4)g|DNo)namr890C?2KSbpSS+V&W_nR(|%cA6f?N7P<i`%VV{TZN>^YnkJ<P1Wl%?p8O3GL$pvf^141;+Y2=qO20M"""
    r"""QWi%=<b4tfTA#Wd}g<aHD{;Y!FZXc0qQupa6~gI%;Q0?*B>>)qa3Z>_s_?P~W1yQFTeUYfJZgQfd|z54lJVbB;fzGSb#&*GQt^{+"""
    r"""g*BuB)PvFFBv%!h-"""
    r"""He~)^?VBc?Tvo{2LbDRC(MJPXh_?*49&E8fwU>PlTB|IO3b>W4uqP^F>etmuY>dkfbPI!6H0Ife#TA#6Z2aC_xdtWImB-"""
    r"""oF)SyKbQ|D63~oBcFb5q5^TyvuR+voZU*eMPRo-NH%bJs#S5EG7&NG+1VOjw2%m{m^j?STR^@mn}bIA8fO>{kp;{?tBi^nG+_-"""
    r"""K4&XRtz}=T(KW53XkGhFNu%5e@+hkFu+{s@U8mSmg<ww!uGw$TkQ~`>i@C+FDz<C(JF{#!I>bj@Hl>L8Y+W&4w_mF=mOk82<eT=p"""
    r"""bICQ8eZ~3<`&G#b2RLYVKBTw+x}~Ta_8TXtrK(NEaa(%^Rp-xV`%tmn(K(x8OZY_LM~d&R&UW!{4R&wLK2|%bvW3~!pkcoPYt>!L"""
    r"""emQ8sRC(IimH+FRQ+A8<c0z+#jRpPe{^NJwUfH?$?Nagm+poztA3ncy`=5V$`u9Ko<@V-(0dq*T4*"""
)

NARROW = (
    r"""c-o~^zi-"""
    r"""n(6u#K06I`0~2N2PrVhjjUJC5B1M2jrs#RDOzQiW7mu5)QD96RS+f{KKMgfetzVqjop046s61f)u+17c%h>Waj|U7V)2qa-SQ(&="""
    r""">4eee6;yZ6~uolOFePJ^*n1k1qmt)|_B>va>Gh4wQ?Q#0UcBwjHu5y<Z(2%v!y7WN3DV05wVba=yudtKY98yLDB&o_D!kC=RZCq*"""
    r"""uI$W3z}B6bKFp80JTAGBfp$?%AhgVX|=+hNIWwY!MZ8H`eob)YkSl-"""
    r"""3h{bm`EtJja0+wmrAQKl1C)hxLcHg?Yr^tfBdUgKs#ViOU8owWNm2qstgA)KF$X&_&rMk=A6J0ilQ%o1C7+XlY2aOo>(wn>62*VZ"""
    r"""N^IVo~AIRgA9HP_A33>Z$bmPajhYBn4g7iOtP{!l=20hUd3TZ1kYtAq8matyqtzg-AKSocw%ERns+@a}{iyaSr=!n2x>gwxEkORX"""
    r"""PXlD3lTvu=O1MW(Wl{RlpM18VT4tz|f-)rK$J+hxarb8)FAj4gLGSu5*Nio2nrLHX~ELE@<lA3kWDbpxkdx-rks9e+H;gZc$S=FH"""
    r"""$^-"""
    r"""1mUC#{{Hy(fzX2FR0Y}43yj9?Lj9L`%6{~2e|vWQYoK^GfP)5fpl_22d|^`O8g^Y%3+EIg$ciWmWw|IRVnx{y<YJ{HO0rxk$rVMG"""
    r"""L`5i<m10GpDp!ube$Epe`GLv=6+6-yw(a7W^7wZ!jt(0z7eVeOz$Bx`lY~vQ8cA{#PBP})c%HBkmLhp-"""
    r"""3>Y_H93GzKOay++fS7mU*zgoau{Ab^730|O3}qwO?;-4j-"""
    r"""i4obElQjOGls6JbKLFI5oPa;km=Yy&jkCQWUvz){gVMU6`X^w?;ICk(u4cK-G7zMrJw"""
)

BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
STATE = {
    "a": BASE,
    "t": BASE.T[1:3],
    "h": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "n": np.array(7),
    "b": np.array([True, False]),
    "p": np.ones(2, np.float32),
    "e": np.zeros((0, 3), np.float32),
    "c": np.array([1 + 2j], np.complex64),
}
"""What the state of `ZIP` and `STREAM` was made of: a transposed slice, a scalar, a parameter, an empty tensor."""


def unpacked(text: str) -> bytes:
    """The bytes of a file."""
    return zlib.decompress(base64.b85decode(text))
